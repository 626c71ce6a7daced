"""An agent outlives what goes wrong around it: certificates that expire, lost receipts, full disks, dead servers."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from archipel.site.agent import SiteFolder, desk, read_status
from archipel.site.agent.folder import Identity
from archipel.site.journal import Journal
from archipel.site.link.dial import Credentials
from archipel.site.worker.process import Post, WorkerProcess
from archipel.spec import ArchipelError, Blob, LinkError, Refusal, RoundTask, Update
from archipel.spec.wire import Cancel, Forget
from unit.site.site_fakes import PATIENCE_SECONDS, FakeControl, living, make_job, put_bundle, utc_now, write_birds
from unit.site.site_runs import Run, began


async def test_a_site_goes_on_when_the_certificate_it_dialled_with_has_expired(
    control: FakeControl, tmp_path: Path
) -> None:
    run = Run(control, make_job(), put_bundle(control.spool, tmp_path / "job"))
    birds = {"birds": write_birds(tmp_path / "data")}
    place = control.enrol(tmp_path / "aging", birds, now=utc_now() - dt.timedelta(hours=20))
    uploading = asyncio.Event()

    async def hold(_: Blob) -> None:
        uploading.set()
        await asyncio.Event().wait()  # until the link it came over is gone

    control.at_put, control.at_renew = hold, uploading.wait
    with place.locked():
        async with living(place):
            known = await began(run)
            control.later = dt.timedelta(hours=10)
            update = await run.stage("train-1", "train", step=1, **known)
            status = read_status(place.path)
    assert update.weight == 30
    assert (control.renewals, len(control.hellos)) == (1, 2)
    assert status is not None
    assert (status.state, status.error) == ("connected", "")


@pytest.mark.parametrize("message", [Cancel(run="run-1"), Forget(run="run-1")], ids=["cancelled", "over"])
@pytest.mark.parametrize("receipt", ["lost", "just come"])
async def test_a_counted_answer_keeps_the_sites_own_copy_although_its_run_ends(  # noqa: PLR0917
    control: FakeControl,
    place: SiteFolder,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    receipt: str,
    message: Cancel | Forget,
) -> None:
    obeyed, cleared, clear = threading.Event(), threading.Event(), Journal.clear

    def count_but_lose_the_receipt(answer: Update | Refusal) -> ArchipelError | None:
        control.answers.setdefault((answer.run, answer.round), answer)
        return None if obeyed.is_set() or answer.run == "run-2" else LinkError("the receipt is lost")

    def clear_and_wait(journal: Journal, task: RoundTask, *, counted: bool) -> set[str]:
        freed = clear(journal, task, counted=counted)
        if counted and task.run == "run-1":
            cleared.set()
            obeyed.wait(PATIENCE_SECONDS)
        return freed

    async with living(place):
        known = await began(run)
        own = (await run.stage("personalise", "personalise", **known)).parts["model"].blob
        await run.stage("export", "export", share=True, **known)
        await control.until(lambda: control.beats[-1].working == ())
        if receipt == "lost":
            control.refuse_submit = count_but_lose_the_receipt
        else:
            monkeypatch.setattr(Journal, "clear", clear_and_wait)
        last = await run.stage("export-own", "export", **{**known, "model": own})
        if receipt == "just come":
            assert await asyncio.to_thread(cleared.wait, PATIENCE_SECONDS)
        control.pending.clear()
        control.say(message)
        await Run(control, run.job, run._blank.bundle, "run-2").stage("check", "check")
        obeyed.set()
        await control.until(lambda: control.beats[-1].working == ())
        control.say(run.serve())
        await control.until(lambda: bool(control.beats[-1].serving))
    [served] = control.beats[-1].serving
    assert (served.copy, served.digest) == ("personalised", last.parts["onnx"].blob.digest)


async def test_a_certificate_that_cannot_be_stored_is_a_trouble_that_is_told_and_not_the_end(
    control: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(control, make_job(), put_bundle(control.spool, tmp_path / "job"))
    birds = {"birds": write_birds(tmp_path / "data")}
    place = control.enrol(tmp_path / "aging", birds, now=utc_now() - dt.timedelta(hours=20))
    before = place.require_identity()

    def full(folder: SiteFolder, identity: Identity) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder.path / "identity.json"))

    monkeypatch.setattr(SiteFolder, "become", full)
    with place.locked():
        async with living(place):
            await control.until(lambda: control.renewals == 1)
            await run.stage("check", "check")
            status = read_status(place.path)
    assert status is not None
    assert (status.state, "No space left on device" in status.error) == ("connected", True)
    assert place.require_identity() == before


async def test_a_file_that_cannot_be_read_for_a_moment_delays_the_link_and_no_more(
    control: FakeControl, place: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, tries = SiteFolder.credentials, []

    def fail_once(folder: SiteFolder) -> Credentials:
        tries.append(folder)
        if len(tries) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return read(folder)

    monkeypatch.setattr(SiteFolder, "credentials", fail_once)
    async with living(place):
        await control.until(lambda: bool(control.beats))
    assert len(tries) == 2


async def test_a_library_that_is_missing_for_serving_is_noted_by_class_and_no_more(
    control: FakeControl, place: SiteFolder, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "archipel.site.inference.models", None)
    async with living(place):
        await run.stage("export", "export", share=True, **await began(run))
        control.say(run.serve("global"))
        await control.until(lambda: bool(control.notes))
    assert [note.what for note in control.notes] == ["site.serve.failed"]
    assert control.notes[0].detail["message"] == "a model cannot be served: ModuleNotFoundError"


async def test_a_task_that_waits_for_an_earlier_answer_is_done_by_a_worker_that_is_ended_with_the_agent(
    control: FakeControl, place: SiteFolder, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[WorkerProcess] = []
    stuck, come = asyncio.Event(), asyncio.Event()

    def start(post: Post) -> WorkerProcess:
        workers.append(WorkerProcess(post))
        return workers[-1]

    async def hold() -> None:
        come.set()
        await stuck.wait()

    monkeypatch.setattr(desk, "WorkerProcess", start)
    monkeypatch.setattr(desk, "IDLE_SECONDS", 1.0)
    control.at_submit = hold
    async with living(place):
        first = run.task("check")
        control.assign(first)
        await asyncio.wait_for(come.wait(), PATIENCE_SECONDS)
        second = msgspec.structs.replace(first, round=1)
        control.assign(second)
        await control.until(lambda: len(control.beats[-1].working) == 2 and workers[0].pid is None)
        stuck.set()
        await control.answered(second)
    assert [worker.pid for worker in workers] == [None, None]
