"""What was tried and what is tried next: the same trials from the same seed, whatever came between; nothing is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archipel.simulation.search.space import Space
from archipel.simulation.search.study import Study, direction_of, mend
from archipel.spec import StorageFullError
from archipel.spec.job import job_from

pytest.importorskip("optuna")
PARAMETERS = {
    "federation.algorithm": {"choices": ["fedavg", "fedprox"]},
    "federation.options.mu": {"low": 0.001, "high": 1.0, "log": True},
    "federation.local.learning_rate": {"low": 0.001, "high": 1.0, "log": True},
    "federation.local.batch_size": {"low": 4, "high": 32},
}


def space(**search: Any) -> Space:
    return Space(
        job_from(
            {
                "name": "points",
                "task": {"code": "task.py:Points"},
                "data": {"dataset": "points"},
                "federation": {"rounds": 9},
                "simulation": {},
                "search": {"trials": 14, "parameters": PARAMETERS, **search},
            }
        )
    )


def value_of(parameters: dict[str, Any], step: int) -> float:
    """A stand-in for a simulation: best near a rate of 0.1, better with each round."""
    rate = float(parameters["federation.local.learning_rate"])
    return 1.0 - abs(rate - 0.1) - 0.01 * parameters["federation.local.batch_size"] / step


def make(study: Study, stop: Callable[[int, int], bool] = lambda _number, _step: False) -> None:
    """Make the trials that are left, or leave in the middle of one."""
    while (asked := study.ask()) is not None:
        for step in range(1, 10):
            if stop(asked.number, step):
                return
            value = value_of(asked.parameters, step)
            if not study.goes_on(asked.number, step, value, is_last=step == 9):
                study.end_early(asked.number, 0.0, executor="loop")
                break
        else:
            study.finish(asked.number, value, 0.0, executor="loop")


def test_an_interrupted_search_comes_to_the_trials_of_an_undisturbed_one(tmp_path: Path) -> None:
    whole = Study(tmp_path / "whole.log", "points", space(), seed=3)
    make(whole)
    assert [trial.number for trial in whole.trials] == list(range(14))
    assert {trial.state for trial in whole.trials} == {"finished", "ended early"}
    place = tmp_path / "torn.log"
    for cut in ((0, 1), (2, 1), (2, 4), (7, 2), (13, 9)):
        make(Study(place, "points", space(), seed=3), lambda *where, cut=cut: where >= cut)
        with place.open("ab") as file:
            file.write(b'{"op_code": 5, "wor')  # what a write that was killed leaves
        place.with_name("torn.log.lock").touch()
    torn = Study(place, "points", space(), seed=3)
    make(torn)
    assert torn.trials == whole.trials
    assert (
        torn.best
        == whole.best
        == max((trial for trial in whole.trials if trial.state == "finished"), key=lambda trial: trial.value)
    )


def test_a_trial_that_was_judged_but_not_ended_when_its_process_was_killed_is_judged_alike(tmp_path: Path) -> None:
    place = tmp_path / "journal.log"
    study = Study(place, "points", space(), seed=0)
    for value in (0.9, 0.1):
        asked = study.ask()
        assert asked is not None
        assert study.goes_on(asked.number, 1, value, is_last=False) == (value == 0.9)
    again = Study(place, "points", space(), seed=0)
    assert [(asked := again.ask()) and asked.number for _ in range(2)] == [0, 1]
    assert again.goes_on(0, 1, 0.9, is_last=False)
    assert not again.goes_on(1, 1, 0.1, is_last=False)


def test_a_trial_says_what_it_was_made_with(tmp_path: Path) -> None:
    study = Study(tmp_path / "journal.log", "points", space(), seed=3)
    make(study)
    for trial in study.trials:
        assert trial.seed == 3
        assert trial.job == space().job_of(trial.parameters).digest
        assert ("federation.options.mu" in trial.parameters) == (trial.parameters["federation.algorithm"] == "fedprox")
        assert trial.curve == tuple((step, value_of(trial.parameters, step)) for step in range(1, trial.rounds + 1))
        assert trial.value == trial.curve[-1][1]


def test_values_differ_from_trial_to_trial_and_between_parameters(tmp_path: Path) -> None:
    study = Study(tmp_path / "journal.log", "points", space(pruning="none"), seed=0)
    make(study)
    assert all(trial.state == "finished" for trial in study.trials)
    rates = [trial.parameters["federation.local.learning_rate"] for trial in study.trials]
    assert len(set(rates)) == len(rates)
    # Of one draw for both, the larger rate would always come with the larger batch.
    sizes = [trial.parameters["federation.local.batch_size"] for trial in study.trials]
    ranks = [sorted(rates).index(rate) for rate in rates]
    assert sorted(zip(ranks, sizes, strict=True)) != list(zip(range(14), sorted(sizes), strict=True))


def test_halving_keeps_one_of_three_at_each_look(tmp_path: Path) -> None:
    """Looks are after rounds 1 and 3 of 9; of worse and worse trials, only the first ever goes on."""
    study = Study(tmp_path / "journal.log", "points", space(), seed=0)
    for number in range(5):
        asked = study.ask()
        assert asked is not None
        on = [study.goes_on(asked.number, step, 1.0 - number / 10, is_last=step == 9) for step in range(1, 10)]
        assert on == ([True] * 9 if number == 0 else [False, *on[1:]])
        study.end_early(asked.number, 0.0, executor="loop")


def test_what_fails_or_diverges_says_why_and_is_not_asked_again(tmp_path: Path) -> None:
    study = Study(tmp_path / "journal.log", "points", space(trials=3, metric="log_loss"), seed=0)
    for end in (
        lambda n: study.fail(n, "broke"),
        lambda n: study.end_early(n, 1.0, "nan", executor="loop"),
        lambda n: study.finish(n, 0.5, 1.0, executor="loop"),
    ):
        asked = study.ask()
        assert asked is not None
        end(asked.number)
    assert study.ask() is None
    assert [(trial.state, trial.why) for trial in study.trials] == [
        ("failed", "broke"),
        ("diverged", "nan"),
        ("finished", ""),
    ]
    more = Study(tmp_path / "journal.log", "points", space(trials=4, metric="log_loss"), seed=0)
    assert more.left == 1
    assert more.best is not None
    assert more.best.number == 2


def test_values_that_do_not_go_together_fail_at_once(tmp_path: Path) -> None:
    parameters = {
        "federation.algorithm": {"choices": ["scaffold", "fedavg"]},
        "federation.local.momentum": {"low": 0.5, "high": 0.9},
        "federation.local.optimizer": {"choices": ["sgd"]},
    }
    study = Study(tmp_path / "journal.log", "points", space(trials=8, parameters=parameters), seed=0)
    made = []
    while (asked := study.ask()) is not None:
        made.append(asked.parameters["federation.algorithm"])
        study.finish(asked.number, 0.5, 0.0, executor="loop")
    assert set(made) == {"fedavg"}
    failed = [trial for trial in study.trials if trial.state == "failed"]
    assert failed
    assert all("scaffold needs plain local SGD" in trial.why for trial in failed)
    assert len(failed) + len(made) == 8


def test_a_full_disk_is_named_and_what_is_over_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(tmp_path / "journal.log", "points", space(), seed=3)
    asked = study.ask()
    assert asked is not None
    study.finish(asked.number, 0.5, 0.0, executor="loop")
    kept = study.trials

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError, match="no space left") as caught:
        study.ask()
    assert "same command" in caught.value.hint
    monkeypatch.undo()
    again = Study(tmp_path / "journal.log", "points", space(), seed=3)
    assert again.trials == kept
    make(again)
    assert len(again.trials) == 14


@pytest.mark.parametrize(("text", "left"), [(b"", b""), (b"{}\n", b"{}\n"), (b'{}\n{"a', b"{}\n"), (b'{"a', b"")])
def test_a_line_that_was_never_whole_is_cut_off(tmp_path: Path, text: bytes, left: bytes) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(text)
    mend(path)
    assert path.read_bytes() == left


def test_losses_are_made_small_and_the_job_may_say_otherwise() -> None:
    assert direction_of("accuracy", None) == "maximize"
    assert direction_of("log_loss", None) == "minimize"
    assert direction_of("log_loss", "maximize") == "maximize"
