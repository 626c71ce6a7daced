"""The warm worker process: reused, killed, abandoned, silent about data, ending with its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path

import psutil
import pytest

from archipel.data.stores.spool import Spool
from archipel.site.worker.process import AbandonedError, Post, WorkerProcess
from archipel.spec import Blob, DataError, RoundTask, TaskError
from archipel.spec.job import JobSpec
from unit.site.site_fakes import SITE, TASK, make_job, post_of, put_bundle, write_birds

LONG, ENDLESS = 20_000, 10_000_000
"""Epochs: one percent of the first is soon told, of the second not within any patience."""


def post(folder: Path) -> Post:
    return post_of(folder, {"birds": write_birds(folder / "data")})


def task_of(folder: Path, job: JobSpec | None = None, kind: str = "check", **fields: object) -> RoundTask:
    bundle = put_bundle(Spool(folder / "spool"), folder / "job", TASK)
    return RoundTask(run="run-1", round=0, site=SITE, kind=kind, job=job or make_job(), bundle=bundle, **fields)


async def model_of(worker: WorkerProcess, folder: Path) -> Blob:
    update, _ = await worker.execute(task_of(folder, kind="initialise"), {}, lambda _: None)
    return update.parts["model"].blob


async def test_one_process_does_many_tasks_and_prints_do_not_disturb_it(tmp_path: Path) -> None:
    worker = WorkerProcess(post(tmp_path))
    await worker.execute(task_of(tmp_path), {}, lambda _: None)
    first = worker.pid
    await worker.execute(task_of(tmp_path, kind="statistics"), {}, lambda _: None)
    assert worker.pid == first
    await worker.close()
    assert worker.pid is None


async def test_an_interpreter_that_was_named_by_a_way_round_starts_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `cd benchmarks && ../.venv/bin/python` does: the sandbox shows the environment, not the folder on the way."""
    (tmp_path / "away").mkdir()
    way = tmp_path / "away" / "/".join([".."] * len(tmp_path.parts)) / sys.executable[1:]
    assert ".." in way.parts
    monkeypatch.setattr(sys, "executable", str(way))
    worker = WorkerProcess(post(tmp_path / "site"))
    await worker.execute(task_of(tmp_path / "site"), {}, lambda _: None)
    await worker.close()


async def test_killed_in_the_middle_of_training_the_task_is_done_again(tmp_path: Path) -> None:
    worker = WorkerProcess(post(tmp_path))
    task = endless(tmp_path, await model_of(worker, tmp_path), LONG // 10)
    expected, _ = await worker.execute(task, {}, lambda _: None)
    killed: list[int] = []

    def kill_once(done: float) -> None:
        if 0 < done < 1 and not killed:
            killed.append(worker.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    update, _ = await worker.execute(task, {}, kill_once)
    assert killed
    assert worker.pid != killed[0]
    assert update.parts == expected.parts
    await worker.close()


async def test_a_task_that_kills_its_process_each_time_is_refused_with_a_word_on_memory(tmp_path: Path) -> None:
    worker = WorkerProcess(post(tmp_path))
    with pytest.raises(TaskError, match="SIGKILL 3 times during 'check'") as caught:
        await worker.execute(task_of(tmp_path, make_job(task={"code": "task.py:Deadly"})), {}, lambda _: None)
    assert "memory" in caught.value.hint
    update, _ = await worker.execute(task_of(tmp_path), {}, lambda _: None)
    assert update.kind == "check"
    await worker.close()


async def test_the_text_of_a_users_exception_stays_in_the_log(tmp_path: Path) -> None:
    worker = WorkerProcess(post(tmp_path))
    with pytest.raises(TaskError, match=r"task\.py:\d+, in .*ValueError") as caught:
        await worker.execute(task_of(tmp_path, make_job(task={"code": "task.py:Broken"})), {}, lambda _: None)
    assert "secret-row-value" not in caught.value.message + caught.value.hint
    await worker.close()


async def test_errors_of_the_tree_cross_with_their_class_and_hint(tmp_path: Path) -> None:
    worker = WorkerProcess(post(tmp_path))
    with pytest.raises(DataError, match="no data set 'fish'") as caught:
        await worker.execute(task_of(tmp_path, make_job(data={"dataset": "fish"})), {}, lambda _: None)
    assert "fish=PATH" in caught.value.hint
    await worker.close()


def endless(folder: Path, model: Blob, epochs: int = ENDLESS) -> RoundTask:
    local = {"epochs": epochs, "batch_size": 8, "learning_rate": 0.1}
    return task_of(folder, make_job(federation={"local": local}), kind="train", step=1, model=model)


def given_to(worker: WorkerProcess) -> asyncio.Event:
    """Return what is set once the worker has been given a task."""
    given, write = asyncio.Event(), worker._write

    async def watched(process: Process, data: bytes) -> None:
        await write(process, data)
        given.set()

    worker._write = watched  # type: ignore[method-assign]
    return given


async def test_work_abandoned_before_the_worker_has_it_is_not_done(tmp_path: Path) -> None:
    worker = WorkerProcess(post(tmp_path))
    model = await model_of(worker, tmp_path)
    before, given = worker.pid, given_to(worker)
    working = asyncio.create_task(worker.execute(endless(tmp_path, model), {}, lambda _: None))
    await asyncio.sleep(0)
    worker.abandon()
    with pytest.raises(AbandonedError):
        await asyncio.wait_for(working, 60)
    assert (given.is_set(), worker.pid) == (False, before)
    await worker.close()


@pytest.mark.parametrize(("epochs", "stays"), [(LONG, True), (ENDLESS, False)], ids=["heard", "unheard"])
async def test_abandoned_work_stops_and_the_process_stays_warm_if_it_hears(
    tmp_path: Path, *, epochs: int, stays: bool
) -> None:
    worker = WorkerProcess(post(tmp_path))
    model = await model_of(worker, tmp_path)
    before = worker.pid
    given = given_to(worker)
    working = asyncio.create_task(worker.execute(endless(tmp_path, model, epochs), {}, lambda _: None))
    await given.wait()
    worker.abandon()
    with pytest.raises(AbandonedError):
        await asyncio.wait_for(working, 60)
    await worker.execute(task_of(tmp_path), {}, lambda _: None)
    assert (worker.pid == before) == stays
    await worker.close()


async def test_cancelled_work_ends_with_its_process(tmp_path: Path) -> None:
    worker = WorkerProcess(post(tmp_path))
    model = await model_of(worker, tmp_path)
    assert worker.pid is not None
    process = psutil.Process(worker.pid)
    working = asyncio.create_task(worker.execute(endless(tmp_path, model), {}, lambda _: None))
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert not process.is_running()


PARENT = """
import asyncio, sys
from pathlib import Path
from archipel.data.stores.spool import Spool
from archipel.site.sandbox import Guard, Sandbox, survey
from archipel.site.worker.process import Post, WorkerProcess

async def main():
    folder = Path(sys.argv[1])
    guard = Guard(Sandbox(), survey())
    worker = WorkerProcess(Post(site="a", folder=folder, spool=Spool(folder / "spool"), guard=guard, data={}))
    await worker._start()
    print(worker.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_a_worker_ends_when_its_agent_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    worker = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    gone, alive = await asyncio.to_thread(psutil.wait_procs, [worker], 30)
    assert (len(gone), alive) == (1, [])
