"""`archipel search`: what it prints and leaves, how it goes on after kill -9, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from archipel.cli.failure import Interrupted
from archipel.cli.fleet import Fleet
from archipel.cli.searching import preset_of, search_job
from archipel.simulation.search.driver import Search
from archipel.spec import ArchipelError, SpecError, StateError, TaskError, UnknownNameError, read_job
from plane import JOB, lay_out

pytest.importorskip("optuna")
SEARCH = """
[search]
trials = 5
[search.parameters]
"federation.local.learning_rate" = { low = 0.001, high = 2.0, log = true }
"task.options.hidden" = { choices = [4, 8] }
"""
PLACE = Path(".archipel/points/search")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lay_out(tmp_path, JOB + SEARCH)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The trials of a search that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _search(lay_out(folder, JOB + SEARCH))
        return _trials()


def _search(job: Path, workers: int = 1) -> str:
    console = Console(record=True, width=200)
    search_job(job, (), Path("rows"), console, workers=workers, as_json=False)
    return console.export_text()


def _trials() -> list[dict[str, Any]]:
    """The trials that are left, without their times."""
    return [{**trial, "seconds": 0} for trial in json.loads((PLACE / "search.json").read_bytes())["trials"]]


def test_a_search_prints_a_preset_that_is_the_best_trial_and_goes_on_with_more(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _search(job)
    assert "5 trials over federation.local.learning_rate, task.options.hidden: accuracy on the validation rows" in said
    preset = said[said.index("[preset.best") : said.index("then, for its figures")]
    assert "simulate" in said
    assert "--preset best --data rows" in said
    job.write_text(JOB + SEARCH + preset)
    trials = _trials()
    best = max((trial for trial in trials if trial["state"] == "finished"), key=lambda trial: trial["value"])
    pasted = read_job(job, ("best",))
    assert pasted.federation.local.learning_rate == best["parameters"]["federation.local.learning_rate"]
    assert pasted.task.options == {"hidden": best["parameters"]["task.options.hidden"]}
    assert all(trial["seed"] == 0 for trial in trials)
    # Nothing is left to do; then three more trials are made, and the first five stay.
    capsys.readouterr()
    search_job(job, (), Path("rows"), Console(stderr=True), workers=1, as_json=True)
    assert [{**trial, "seconds": 0} for trial in json.loads(capsys.readouterr().out)["trials"]] == trials
    job.write_text((JOB + SEARCH).replace("trials = 5", "trials = 8"))
    assert "goes on after 5 trials" in _search(job, workers=2)
    assert len(_trials()) == 8
    assert _trials()[:5] == trials


def test_a_search_that_was_killed_goes_on_and_comes_to_the_same_trials(
    job: Path, undisturbed: list[dict[str, Any]]
) -> None:
    command = [sys.executable, "-m", "archipel.cli.main", "search", str(job), "--data", "rows"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        over = 0
        while over < 2:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.05)  # it must not be over yet
            journal = PLACE / "journal.log"
            over = journal.read_bytes().count(b'"values"') if journal.exists() else 0
        workers = psutil.Process(process.pid).children()
        process.kill()
    assert workers
    gone, alive = psutil.wait_procs(workers, 30)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE], gone
    said = _search(job)
    assert "goes on after" in said
    assert _trials() == undisturbed


def test_a_worker_that_is_killed_is_replaced_and_costs_no_trial(
    job: Path, undisturbed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    hear = Search._hear

    def hear_and_kill(search: Search, worker: Any) -> bool:
        over = hear(search, worker)
        if len(killed) < 2 and not over:
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)
        return over

    monkeypatch.setattr(Search, "_hear", hear_and_kill)
    _search(job)
    assert len(killed) == 2
    assert _trials() == undisturbed


def test_a_trial_that_costs_three_workers_fails_and_the_others_are_made(job: Path) -> None:
    parameters = '"task.options.dies" = { choices = [true, false] }'
    job.write_text(
        JOB + SEARCH.replace('"task.options.hidden" = { choices = [4, 8] }', parameters).replace("= 5", "= 3")
    )
    _search(job)
    trials = _trials()
    states = {trial["parameters"]["task.options.dies"]: trial["state"] for trial in trials}
    assert states == {True: "failed", False: "finished"}
    assert all("3 processes died" in trial["why"] for trial in trials if trial["state"] == "failed")


def test_an_interrupted_search_says_what_is_kept(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_search: Search, _worker: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "_hear", interrupt)
    others = set(psutil.Process().children())  # servers of other tests
    with pytest.raises(Interrupted) as stopped:
        _search(job)
    assert stopped.value.way_on == "0 of 5 trials are over and kept; the same command goes on"
    assert set(psutil.Process().children()) <= others


REFUSED: list[tuple[str, str, type[ArchipelError], str]] = [
    ('"task.options.hidden"', '"task.options.hiden"', UnknownNameError, "hiden"),
    ("trials = 5", 'trials = 5\nmetric = "accurcy"', UnknownNameError, "accurcy"),
    ("trials = 5", 'trials = 5\nmetrc = "accuracy"', UnknownNameError, "metrc"),
    ("high = 2.0", "high = 0.0001", SpecError, "is not below high"),
    ("trials = 5", "trials = 0", SpecError, "trials"),
    ("[4, 8]", '["four"]', TaskError, "none of 5 trials|four|hidden|model"),
    ("low = 0.001, high = 2.0", "low = 1e60, high = 1e62", TaskError, "none of 5 trials came to its end"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[case[1] for case in REFUSED])
def test_what_cannot_be_searched_is_refused_with_the_next_step(
    job: Path, case: tuple[str, str, type[ArchipelError], str]
) -> None:
    before, after, kind, message = case
    job.write_text(JOB + SEARCH.replace(before, after))
    with pytest.raises(kind, match=message) as caught:
        _search(job)
    assert caught.value.hint


def test_one_search_at_a_time_works_in_a_folder_and_at_least_one_worker(job: Path) -> None:
    with Fleet(PLACE).lock() as mine, pytest.raises(StateError, match="another search of 'points'"):
        assert mine
        _search(job)
    with pytest.raises(SpecError, match="0 workers"):
        _search(job, workers=0)


NAMES = st.sampled_from(["federation.local.learning_rate", "federation.algorithm", "task.options.a", "task.options.b"])
VALUES = st.one_of(
    st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


@given(st.dictionaries(NAMES, VALUES, min_size=1))
def test_a_preset_reads_back_as_its_values(parameters: dict[str, Any]) -> None:
    read: Any = tomllib.loads(preset_of(parameters))["preset"]["best"]
    for name, value in parameters.items():
        found = read
        for step in name.split("."):
            found = found[step]
        assert found == value
        assert type(found) is type(value)
