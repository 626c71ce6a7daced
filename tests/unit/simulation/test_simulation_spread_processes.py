"""Cohorts over real processes: the same bytes as in one, also when some are killed; failures as in one."""

from __future__ import annotations

import os
import signal
from itertools import pairwise

import msgspec
import numpy as np
import psutil
import pytest

from archipel.simulation.spread.choice import Inline, OverProcesses, OverRay, cores, read_spread, spread_over
from archipel.simulation.spread.crew import MOST, ROOM_BYTES, WINDOW, piece_size
from archipel.simulation.spread.messages import Piece, from_bytes, to_bytes
from archipel.simulation.spread.processes import Processes
from archipel.spec import (
    DataError,
    LocalTraining,
    NonFiniteError,
    SpecError,
    StorageFullError,
    TaskError,
    digest_of,
    manifest_of,
)
from archipel.tasks.executors import open_executor
from archipel.tasks.port import LocalPlan
from points import case, inline


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
    opening = msgspec.structs.replace(known.opening(), executor="stacked")
    with (
        pytest.raises(TaskError, match="no executor 'stacked'"),
        Processes(opening, count=1, like=run.weights.vector, cohort=25, place=tmp_path / "spread") as spread,
    ):
        list(run.rounds(spread))


def test_other_rows_than_where_it_was_started_are_refused(tmp_path):
    known = case(tmp_path)
    run = known.run(tmp_path / "controls")
    np.savez(known.rows / "points.npz", x=np.zeros(9), side=np.zeros(9, int))
    with (
        pytest.raises(DataError, match="are others here"),
        Processes(known.opening(), count=1, like=run.weights.vector, cohort=25, place=tmp_path / "spread") as spread,
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


@pytest.mark.parametrize("text", [
    "", "process", "processes:0", "processes:-1", "processes:1.5", "2", "ray:", "ray:2", "ray://x", "ray://:1", "ray://x:1/y",
])  # fmt: skip
def test_a_spread_nobody_knows_is_refused(text):
    with pytest.raises(SpecError, match="cannot be spread over") as failure:
        read_spread(text)
    assert "inline" in failure.value.hint


@pytest.mark.parametrize(("text", "spread"), [
    ("inline", Inline()),
    ("processes:12", OverProcesses(12)),
    ("processes", OverProcesses(cores())),
    ("ray", OverRay(None)),
    ("ray://head.example:10001", OverRay("ray://head.example:10001")),
])  # fmt: skip
def test_a_spread_is_read_as_people_write_it(text, spread):
    assert read_spread(text) == spread


def test_inline_is_the_executor_itself(tmp_path):
    known = case(tmp_path)
    loop = open_executor("loop", known.adapter)
    like = np.zeros(3, np.float32)
    with spread_over(Inline(), loop, known.opening(), like=like, cohort=2, place=tmp_path) as (executor, count):
        assert (executor, count) == (loop, 1)


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
    sent = Piece(number=3, manifest=manifest, plans=(plan,))
    got = from_bytes(to_bytes(sent), Piece)
    assert got.plans[0].rows.tolist() == [5, 7]
    assert got.plans[0].rows.dtype == np.int64
    assert got.plans[0].correction.dtype == np.float32
    assert got.plans[0].correction.tolist() == [0.5, -1.5]
    assert (got.number, got.manifest, got.plans[0].seed) == (3, manifest, (1, 2, 3))
