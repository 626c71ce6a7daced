"""Cohorts over real processes: the same bytes as in one, also when some are killed; failures as in one."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest

from archipel.simulation.opening import open_here
from archipel.simulation.population.partitions import open_population
from archipel.simulation.spread.choice import processes_of, spread_over
from archipel.simulation.spread.messages import Opening, Piece, from_bytes, to_bytes
from archipel.simulation.spread.processes import MOST, ROOM_BYTES, WINDOW, Processes, piece_size
from archipel.simulation.virtual import VirtualRun
from archipel.spec import (
    JobSpec,
    LocalTraining,
    NonFiniteError,
    SpecError,
    StorageFullError,
    TaskError,
    digest_of,
    manifest_of,
    read_job,
)
from archipel.tasks.executors import open_executor
from archipel.tasks.port import Adapter, LocalPlan

TASK = """
import os
import sys

import numpy as np

from archipel.tasks.numpy import Network, NumpyTask, Split

ELSEWHERE = "archipel.simulation.spread" in sys.orig_argv


class Points(NumpyTask):
    classes, features, label = ("left", "right"), ("x",), "side"

    def __init__(self, *, dies=False):
        self.dies = dies

    def statistics(self, site):
        return {}

    def read(self, site, statistics):
        print("a task may print")
        if self.dies and ELSEWHERE:
            os._exit(9)
        rows = dict(np.load(site.path / "points.npz"))
        return Split(train=rows, test=rows)

    def model(self, statistics):
        return Network(inputs=1, hidden=(8,), outputs=2, mean=np.zeros(1), scale=np.ones(1))
"""
JOB = """
name = "points"
[task]
code = "task.py:Points"
options = {{ dies = {dies} }}
[data]
dataset = "points"
[federation]
algorithm = "{algorithm}"
rounds = 4
[federation.local]
learning_rate = 0.3
batch_size = 4
[simulation]
clients = 40
cohort = 25
rows = 12
"""


@dataclass
class Case:
    """A job over some rows, and what opens it."""

    job: JobSpec
    folder: Path
    rows: Path
    adapter: Adapter

    def run(self, controls: Path) -> VirtualRun:
        assert self.job.simulation is not None
        population = open_population(self.job.simulation, self.job.federation.seed, self.adapter.split.train)
        return VirtualRun(self.job, self.adapter, population, controls)

    def opening(self) -> Opening:
        return Opening(job=self.job, folder=str(self.folder), data=str(self.rows), executor="loop")


def case(place: Path, *, algorithm: str = "fedavg", odd: float = 0.0, dies: bool = False) -> Case:
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 200)
    rows = place / "rows"
    rows.mkdir()
    x = rng.normal(side * 2.0 - 1.0, 0.6)
    np.savez(rows / "points.npz", x=x + odd, side=side)
    (place / "task.py").write_text(TASK)
    (place / "job.toml").write_text(JOB.format(algorithm=algorithm, dies=str(dies).lower()))
    job = read_job(place / "job.toml")
    adapter, _ = open_here(job, place, rows)
    return Case(job, place, rows, adapter)


def inline(known: Case) -> str:
    run = known.run(known.folder / "controls")
    list(run.rounds(open_executor("loop", known.adapter)))
    return digest_of(run.packed())


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "fedadam"])
def test_three_processes_give_the_bytes_and_losses_of_one(tmp_path, algorithm):
    known = case(tmp_path, algorithm=algorithm)
    alone = known.run(tmp_path / "controls")
    expected = list(alone.rounds(open_executor("loop", known.adapter)))
    run = known.run(tmp_path / "others")
    with Processes(known.opening(), count=3, like=run.weights.vector, cohort=25, place=tmp_path / "spread") as spread:
        records = list(run.rounds(spread))
    assert run.packed() == alone.packed()
    assert [(r.loss, r.steps, r.examples) for r in records] == [(r.loss, r.steps, r.examples) for r in expected]


def test_a_killed_process_costs_its_piece_again_and_not_the_run(tmp_path):
    known = case(tmp_path)
    run = known.run(tmp_path / "controls")
    with Processes(known.opening(), count=2, like=run.weights.vector, cohort=25, place=tmp_path / "spread") as spread:
        before: list[list[int]] = []
        for _ in run.rounds(spread):
            before.append(spread.pids)
            os.kill(spread.pids[0], signal.SIGKILL)
        assert all(one[0] not in two for one, two in pairwise(before))
    assert digest_of(run.packed()) == inline(known)


def test_a_process_killed_in_the_middle_of_a_cohort_changes_no_byte(tmp_path):
    known = case(tmp_path)
    run, loop = known.run(tmp_path / "controls"), open_executor("loop", known.adapter)
    plans = run.plans(1)
    with Processes(known.opening(), count=2, like=run.weights.vector, cohort=25, place=tmp_path / "spread") as spread:
        got = []
        for number, one in enumerate(spread.train(run.weights, plans)):
            got.append(one.delta)
            if number in {0, 9}:
                os.kill(spread.pids[-1], signal.SIGKILL)
    expected = [one.delta for one in loop.train(run.weights, plans)]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_a_task_that_ends_its_process_is_at_fault_by_name_and_nothing_stays_behind(tmp_path):
    known = case(tmp_path, dies=True)
    run = known.run(tmp_path / "controls")
    like = run.weights.vector
    with (
        pytest.raises(TaskError, match=r"3 processes died over the clients client-\S+ to client-") as failure,
        Processes(known.opening(), count=2, like=like, cohort=25, place=tmp_path / "spread") as spread,
    ):
        list(run.rounds(spread))
    assert "--spread inline" in failure.value.hint
    assert list((tmp_path / "spread").iterdir()) == []


def test_a_client_that_diverges_is_named_as_in_one_process_and_processes_end(tmp_path):
    known = case(tmp_path, odd=np.inf)
    with pytest.raises(NonFiniteError) as alone, np.errstate(all="ignore"):
        inline(known)
    run = known.run(tmp_path / "others")
    place = tmp_path / "spread"
    pids: list[int] = []
    with (
        pytest.raises(NonFiniteError, match="client-") as spread_out,
        Processes(known.opening(), count=2, like=run.weights.vector, cohort=25, place=place) as spread,
    ):
        try:
            list(run.rounds(spread))
        finally:
            pids = spread.pids
    assert (spread_out.value.message, spread_out.value.hint) == (alone.value.message, alone.value.hint)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_round_that_is_given_up_leaves_no_answer_to_the_next(tmp_path):
    known = case(tmp_path)
    run, loop = known.run(tmp_path / "controls"), open_executor("loop", known.adapter)
    first, second = run.plans(1), run.plans(2)
    with Processes(known.opening(), count=2, like=run.weights.vector, cohort=25, place=tmp_path / "spread") as spread:
        begun = spread.train(run.weights, first)
        next(begun)
        begun.close()
        got = [one.delta for one in spread.train(run.weights, second)]
    expected = [one.delta for one in loop.train(run.weights, second)]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_what_a_process_cannot_open_is_raised_here_by_its_name(tmp_path):
    known = case(tmp_path)
    run = known.run(tmp_path / "controls")
    opening = Opening(job=known.job, folder=str(tmp_path), data=str(tmp_path / "rows"), executor="stacked")
    with (
        pytest.raises(TaskError, match="no executor 'stacked'"),
        Processes(opening, count=1, like=run.weights.vector, cohort=25, place=tmp_path / "spread") as spread,
    ):
        list(run.rounds(spread))


def test_a_full_disk_is_named_before_anything_is_computed(tmp_path, monkeypatch):
    known = case(tmp_path)
    like = known.run(tmp_path / "controls").weights.vector

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(StorageFullError, match="no space left"):
        Processes(known.opening(), count=2, like=like, cohort=25, place=tmp_path / "spread")


@pytest.mark.parametrize(("cohort", "processes", "client_bytes", "size"), [
    (50, 2, 400_000, 7),
    (10_000, 2, 400_000, MOST),
    (3, 8, 400_000, 1),
    (10_000, 4, ROOM_BYTES // (WINDOW * 4 * 3), 3),
    (10_000, 4, ROOM_BYTES * 2, 1),
])  # fmt: skip
def test_pieces_are_fair_shares_in_bounded_memory(cohort, processes, client_bytes, size):
    assert piece_size(cohort, processes, client_bytes) == size


@pytest.mark.parametrize("spread", ["", "process", "processes:0", "processes:-1", "processes:1.5", "ray://x", "2"])
def test_a_spread_nobody_knows_is_refused(spread):
    with pytest.raises(SpecError, match="cannot be spread over") as failure:
        processes_of(spread)
    assert "inline" in failure.value.hint


def test_a_spread_says_how_many_processes_it_is():
    assert processes_of("inline") is None
    assert processes_of("processes:12") == 12
    assert (processes_of("processes") or 0) >= 1


def test_inline_is_the_executor_itself(tmp_path):
    known = case(tmp_path)
    loop = open_executor("loop", known.adapter)
    like = np.zeros(3, np.float32)
    with spread_over(None, loop, known.opening(), like=like, cohort=2, place=tmp_path) as executor:
        assert executor is loop


def test_a_piece_comes_back_as_it_was_sent():
    plan = LocalPlan(
        local=LocalTraining(),
        learning_rate=0.1,
        epochs=2,
        seed=(1, 2, 3),
        client="c",
        rows=np.array([5, 7], np.int64),
        correction=np.array([0.5, -1.5], np.float32),
    )
    manifest = manifest_of([("w", (2,), np.dtype(np.float32))])
    sent = Piece(number=3, manifest=manifest, row=7, plans=(plan,))
    got = from_bytes(to_bytes(sent), Piece)
    assert got.plans[0].rows.tolist() == [5, 7]
    assert got.plans[0].rows.dtype == np.int64
    assert got.plans[0].correction.dtype == np.float32
    assert got.plans[0].correction.tolist() == [0.5, -1.5]
    assert (got.number, got.row, got.manifest, got.plans[0].seed) == (3, 7, manifest, (1, 2, 3))
