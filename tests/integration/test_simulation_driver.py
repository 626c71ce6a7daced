"""A whole run in one process: every algorithm, uneven sites, and the same bytes again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from archipel.data.bundle import pack_bundle
from archipel.federated.progress import Progress
from archipel.simulation import Outcome, Simulation
from archipel.spec import JobSpec, StateError, unpack
from archipel.spec.job import job_from
from archipel.tasks.metrics import summarise

TASK = """
from archipel.tasks.numpy.task import NumpyTask, rows_of
from archipel.tasks.port import Split


class Blobs(NumpyTask):
    classes = ("left", "right")
    features = ("x", "y")
    label = "side"

    def read(self, site, statistics):
        samples = self.samples(site)
        held_out = site.row_ids % 4 == 0
        return Split(train=rows_of(samples, ~held_out), test=rows_of(samples, held_out))
"""


def _job(**federation: Any) -> JobSpec:
    return job_from(
        {
            "name": "blobs",
            "task": {"code": "task.py:Blobs"},
            "data": {
                "dataset": "points",
                "contract": {
                    "label": "side",
                    "columns": {
                        "x": {"kind": "number"},
                        "y": {"kind": "number"},
                        "side": {"kind": "category", "values": ["left", "right"]},
                    },
                },
            },
            "federation": {"rounds": 4, "local": {"epochs": 2, "learning_rate": 0.2}, **federation},
            "evaluation": {"alone": True, "personalise_epochs": 1, "cross": True},
            "deployment": {"serve": "personalised"},
        }
    )


def _site(folder: Path, seed: int, sides: Mapping[str, int]) -> Path:
    rng = np.random.default_rng(seed)
    lines = ["x,y,side"]
    for side, count in sides.items():
        centre = -1.0 if side == "left" else 1.0
        lines += [f"{x:.6f},{y:.6f},{side}" for x, y in rng.normal(centre, 0.5, (count, 2))]
    folder.mkdir(parents=True)
    (folder / "points.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    return {
        "both": _site(tmp_path / "data" / "both", 1, {"left": 40, "right": 40}),
        "one-class": _site(tmp_path / "data" / "one-class", 2, {"left": 30}),
        "small": _site(tmp_path / "data" / "small", 3, {"left": 3, "right": 9}),
    }


def _bundle(tmp_path: Path) -> bytes:
    folder = tmp_path / "code"
    folder.mkdir(exist_ok=True)
    (folder / "task.py").write_text(TASK)
    return pack_bundle(folder, ("*.py",))


def _run(tmp_path: Path, data: Mapping[str, Path], name: str, **federation: Any) -> tuple[Outcome, Simulation]:
    simulation = Simulation(_job(**federation), _bundle(tmp_path), data, tmp_path / name)
    return simulation.run(), simulation


@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox", "scaffold", "fedavgm", "fedadam", "fedyogi"])
def test_every_algorithm_learns_and_gives_the_same_bytes_again(tmp_path, data, algorithm: str) -> None:
    options = {"server_learning_rate": 0.1} if algorithm in {"fedadam", "fedyogi"} else {}
    first, simulation = _run(tmp_path, data, "a", algorithm=algorithm, options=options)
    second, _ = _run(tmp_path, dict(reversed(data.items())), "b", algorithm=algorithm, options=options)
    assert first.model == second.model
    assert first.sums is not None
    sums = unpack(simulation.spool.require(first.sums.digest).read_bytes())
    of_model = {key.split("|")[1]: value for key, value in sums.items() if key.startswith("federated|")}
    assert summarise(of_model)["accuracy"] > 0.9


@pytest.mark.parametrize("kind", ["int8", "int4", "top-k", "low-rank"])
def test_a_run_with_compressed_updates_learns_and_gives_the_same_bytes_again(tmp_path, data, kind: str) -> None:
    chosen = {"kind": kind, "fraction": 0.5, "rank": 1, "sites": {"small": "int8"}}
    first, simulation = _run(tmp_path, data, "a", compression=chosen)
    second, _ = _run(tmp_path, dict(reversed(data.items())), "b", compression=chosen)
    assert first.model == second.model
    assert first.sums is not None
    sums = unpack(simulation.spool.require(first.sums.digest).read_bytes())
    of_model = {key.split("|")[1]: value for key, value in sums.items() if key.startswith("federated|")}
    assert summarise(of_model)["accuracy"] > 0.9


def test_every_site_and_every_model_is_scored_on_everyones_rows(tmp_path, data) -> None:
    outcome, simulation = _run(tmp_path, data, "a")
    sums = unpack(simulation.spool.require(outcome.sums.digest).read_bytes())
    names = {key.split("|")[0] for key in sums}
    assert names == {"federated"} | {f"{kind}/{site}" for kind in ("alone", "personalised") for site in data}
    rows = sum(manifest.rows for manifest in outcome.datasets.values())
    assert rows == 122
    tested = {name: sums[f"{name}|classification.examples"].sum() for name in names}
    assert set(tested.values()) == {20 + 8 + 3}
    assert outcome.participation == (("both", "one-class", "small"),) * 4


class _StopError(Exception):
    """Somebody pressed Ctrl-C."""


def _stopping_after(answers: int) -> Callable[[Progress], None]:
    seen = iter(range(1, answers))

    def watch(_: Progress) -> None:
        if next(seen, None) is None:
            raise _StopError

    return watch


@pytest.mark.parametrize("algorithm", ["scaffold", "fedadam", "fedavg"])
def test_an_interrupted_simulation_goes_on_to_the_same_bytes_and_does_nothing_twice(
    tmp_path, data, algorithm: str
) -> None:
    options = {"server_learning_rate": 0.1} if algorithm == "fedadam" else {}
    compression = {"kind": "top-k" if algorithm == "fedavg" else "none"}
    lossy = {} if algorithm == "scaffold" else {"compression": compression}
    job = _job(algorithm=algorithm, options=options, **lossy)
    bundle, answers = _bundle(tmp_path), list[Progress]()
    whole = Simulation(job, bundle, data, tmp_path / "whole").run(answers.append)
    done = 0
    for stop in (2, 5, 1, 9, 4, 1, 6):  # in the check of the data, in rounds, between them, in the scoring
        with pytest.raises(_StopError):
            Simulation(job, bundle, data, tmp_path / "parts", key="the same").run(_stopping_after(stop))
        done += stop
    rest: list[Progress] = []
    again = Simulation(job, bundle, data, tmp_path / "parts", key="the same").run(rest.append)
    assert (again.model, again.sums, again.site_sums) == (whole.model, whole.sums, whole.site_sums)
    assert len(rest) == len(answers) - done
    assert again.seconds.keys() == whole.seconds.keys()


def test_both_ways_to_secure_sums_come_to_the_same_bytes_also_where_interrupted(tmp_path, data) -> None:
    job, bundle = _job(min_sites=3), _bundle(tmp_path)
    job = replace(job, evaluation=replace(job.evaluation, cross=False))
    by_shares = replace(job, privacy=replace(job.privacy, secure_aggregation="secagg"))
    helped = replace(job, privacy=replace(job.privacy, secure_aggregation="two-server", helper="notary"))
    whole = Simulation(by_shares, bundle, data, tmp_path / "whole").run()
    for stop in (
        10,
        3,
        1,
        7,
    ):  # in and between legs
        with pytest.raises(_StopError):
            Simulation(helped, bundle, data, tmp_path / "parts", key="the same").run(_stopping_after(stop))
    again = Simulation(helped, bundle, data, tmp_path / "parts", key="the same").run()
    assert (again.model, again.sums) == (whole.model, whole.sums)
    assert again.datasets.keys() == data.keys()


def test_a_kill_within_a_line_of_the_journal_costs_that_answer_only(tmp_path, data) -> None:
    job, bundle = _job(), _bundle(tmp_path)
    whole = Simulation(job, bundle, data, tmp_path / "whole").run()
    with pytest.raises(_StopError):
        Simulation(job, bundle, data, tmp_path / "parts", key="k").run(_stopping_after(12))
    journal = tmp_path / "parts" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert Simulation(job, bundle, data, tmp_path / "parts", key="k").run().model == whole.model
    assert not journal.exists()


@pytest.mark.parametrize("key", ["another", None])
def test_a_simulation_of_something_else_begins_anew(tmp_path, data, key) -> None:
    job, bundle = _job(), _bundle(tmp_path)
    with pytest.raises(_StopError):
        Simulation(job, bundle, data, tmp_path / "parts", key="k").run(_stopping_after(12))
    answers: list[Progress] = []
    other = Simulation(_job(seed=5), bundle, data, tmp_path / "parts", key=key).run(answers.append)
    assert other.model == Simulation(_job(seed=5), bundle, data, tmp_path / "whole").run().model
    assert answers[0].phase != "train"


def test_a_recorded_participation_is_replayed(tmp_path, data) -> None:
    sampled, _ = _run(tmp_path, data, "a", cohort=0.5, seed=3)
    assert {len(sites) for sites in sampled.participation} == {2}
    job, bundle = _job(cohort=0.5, seed=3), _bundle(tmp_path)
    replayed = Simulation(job, bundle, data, tmp_path / "b", participation=sampled.participation).run()
    assert replayed.model == sampled.model
    other = [("both",)] * 4
    different = Simulation(job, bundle, data, tmp_path / "c", participation=other).run()
    assert different.participation == (("both",),) * 4
    assert different.model != sampled.model


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold"])
def test_models_of_closed_rounds_are_removed_and_so_is_what_an_earlier_run_left(tmp_path, data, algorithm) -> None:
    def weights(rounds: int) -> list[str]:
        _, simulation = _run(tmp_path, data, "a", rounds=rounds, algorithm=algorithm)
        return sorted(simulation.spool.digests())

    few = weights(2)
    assert len(weights(6)) == len(few)
    assert weights(2) == few


def test_a_site_without_usable_rows_leaves_by_name_and_the_run_goes_on(tmp_path, data) -> None:
    empty = tmp_path / "data" / "empty"
    empty.mkdir()
    (empty / "points.csv").write_text("x,y,side\nnan?,1,left\n")
    outcome, _ = _run(tmp_path, {**data, "empty": empty}, "a")
    assert set(outcome.progress.excluded) == {"empty"}
    assert outcome.participation == (("both", "one-class", "small"),) * 4


def test_too_few_usable_sites_end_the_run_with_the_reason(tmp_path, data) -> None:
    with pytest.raises(StateError, match="elsewhere"):
        _run(tmp_path, {**data, "gone": tmp_path / "elsewhere"}, "a", min_sites=4)
