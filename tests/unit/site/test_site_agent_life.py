"""The agent between the rounds: alone on its folder, certificates, cancelled and superseded work, broken links."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from pathlib import Path

import msgspec
import pytest

from archipel.site.agent import SiteFolder, read_status
from archipel.site.journal import Journal
from archipel.spec import (
    ArchipelError,
    DigestError,
    Refusal,
    ShapeError,
    StaleError,
    StateError,
    StorageFullError,
    TrustError,
    Update,
)
from archipel.spec.audit import LogGrowth
from archipel.spec.wire import CHUNK_BYTES, Forget, Offer
from unit.site.site_fakes import (
    PATIENCE_SECONDS,
    SITE,
    TASK,
    AgentProcess,
    FakeControl,
    living,
    make_job,
    put_bundle,
    utc_now,
)
from unit.site.site_runs import Run, began

LONG = 50_000
"""Epochs that take longer than the test."""
WIDE = (
    TASK
    + """

from archipel.tasks.numpy import Network


class Wide(Birds):
    def model(self, statistics):
        return Network(inputs=2, hidden=(300_000,), outputs=2)
"""
)
"""A model whose bytes do not fit one piece."""


def slow(run: Run) -> None:
    """Let training of this run take longer than the test."""
    job = make_job(federation={"local": {"epochs": LONG, "batch_size": 8, "learning_rate": 0.1}})
    run._blank = msgspec.structs.replace(run._blank, job=job)


def working(control: FakeControl) -> list[tuple[int, float]]:
    return [(work.round, work.done) for work in control.beats[-1].working] if control.beats else []


async def test_a_second_agent_on_a_folder_is_refused_by_name(place: SiteFolder) -> None:
    with place.locked():
        async with AgentProcess(place.path) as second:
            assert await second.wait() == StateError.exit_code
    assert "another agent (process" in second.log.read_text()


async def test_without_joining_there_is_nothing_to_run(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    async with AgentProcess(folder) as agent:
        assert await agent.wait() != 0
    assert "archipel join" in agent.log.read_text()


@pytest.mark.parametrize(("age", "says"), [(3, "expired"), (-3, "becomes valid in")], ids=["expired", "not yet valid"])
async def test_a_certificate_outside_its_time_says_what_to_do(
    control: FakeControl, tmp_path: Path, age: int, says: str
) -> None:
    place = control.enrol(tmp_path / "late", {}, now=utc_now() - dt.timedelta(days=age))
    with pytest.raises(TrustError, match=says) as caught:
        async with living(place):
            await asyncio.sleep(0)
    assert "join" in caught.value.hint or "clock" in caught.value.hint


async def test_a_certificate_is_renewed_after_two_thirds_of_its_life(control: FakeControl, tmp_path: Path) -> None:
    place = control.enrol(tmp_path / "aging", {}, now=utc_now() - dt.timedelta(hours=20))
    before = place.require_identity().certificate.certificate_pem
    async with living(place):
        await control.until(lambda: control.renewals == 1)
        await control.until(lambda: len(control.hellos) == 2)
    after = place.require_identity()
    assert after.certificate.certificate_pem != before
    assert after.validity()[1] > utc_now() + dt.timedelta(hours=23)


async def test_the_status_says_what_the_agent_does(control: FakeControl, place: SiteFolder) -> None:
    assert read_status(place.path) is None
    with place.locked():
        async with living(place):
            await control.until(lambda: bool(control.beats))
            status = read_status(place.path)
            assert status is not None
            assert (status.site, status.state, status.control) == (SITE, "connected", control.address)
    status = read_status(place.path)
    assert status is not None
    assert status.state == "stopped"


async def test_a_dead_agent_is_not_shown_as_connected(control: FakeControl, place: SiteFolder) -> None:
    async with AgentProcess(place.path) as agent:
        await control.until(lambda: bool(control.beats))
        assert agent.process is not None
        agent.process.kill()
        await agent.wait()
    status = read_status(place.path)
    assert status is not None
    assert (status.state, "ended without a word" in status.error) == ("stopped", True)


async def test_the_link_is_dialled_again_after_control_was_away(
    control: FakeControl, place: SiteFolder, run: Run
) -> None:
    async with living(place):
        await run.stage("check", "check")
        await control.stop()
        await control.start()
        update = await run.stage("statistics", "statistics")
    assert update.parts["sums"].shared
    assert len(control.hellos) == 2


async def test_work_goes_on_while_control_is_away_and_its_answer_waits(
    control: FakeControl, place: SiteFolder, run: Run
) -> None:
    async with living(place):
        known = await began(run)
        refused = asyncio.Event()

        def once(answer: Update | Refusal) -> ArchipelError | None:
            return None if refused.is_set() or refused.set() else StorageFullError("full for a moment")

        control.refuse_submit = once
        update = await run.stage("train-1", "train", step=1, **known)
    assert update.weight == 30
    assert [note.what for note in control.notes] == ["site.delivery.waits"]


async def test_a_cancelled_run_leaves_nothing_behind(control: FakeControl, place: SiteFolder, run: Run) -> None:
    async with living(place):
        known = await began(run)
        slow(run)
        task = run.task("train", step=1, **known)
        control.assign(task)
        await control.until(lambda: bool(working(control)))
        control.pending.clear()
        control.say(Forget(run="run-1"))
        await control.until(lambda: control.beats[-1].working == () and not any(place.spool.glob("??/*")))
    journal = Journal(place.journal)
    assert journal.in_hand() == ()
    assert journal.live() == set()
    journal.close()


async def test_a_later_round_takes_the_place_of_an_earlier_one(
    control: FakeControl, place: SiteFolder, run: Run
) -> None:
    async with living(place):
        known = await began(run)
        fast = run._blank.job
        slow(run)
        first = run.task("train", step=1, **known)
        control.assign(first)
        await control.until(lambda: any(done > 0 for _, done in working(control)))
        control.pending.clear()
        run._blank = msgspec.structs.replace(run._blank, job=fast)
        later = msgspec.structs.replace(run.task("train", step=2, **known), round=9)
        control.assign(later)
        await control.answered(later)
        await control.until(lambda: control.beats[-1].working == ())
    assert (first.run, first.round) not in control.answers


async def test_a_stale_update_takes_its_state_with_it(control: FakeControl, place: SiteFolder, tmp_path: Path) -> None:
    run = Run(control, make_job(federation={"algorithm": "scaffold"}), put_bundle(control.spool, tmp_path / "job"))
    async with living(place):
        known = await began(run)
        for status, step in (("accepted", 1), ("stale", 2)):
            control.receipt_status = status
            await run.stage(f"train-{step}", "train", step=step, variant={"scaffold": 1.0}, **known)
        journal = Journal(place.journal)
        await control.until(lambda: journal.recall("run-1", 99) == journal.recall("run-1", 3))
    assert set(journal.recall("run-1", 99)) == {"control"}
    journal.close()


async def test_a_round_does_not_stand_on_an_earlier_one_of_which_control_has_not_said_what_it_is_worth(
    control: FakeControl, place: SiteFolder, tmp_path: Path
) -> None:
    bundle = put_bundle(control.spool, tmp_path / "job")
    job = make_job(federation={"algorithm": "scaffold"})
    worth, come = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        come.set()
        await worth.wait()

    async with living(place):
        deltas = []
        for name in ("undisturbed", "late"):
            run = Run(control, job, bundle, name)
            known = {**await began(run), "variant": {"scaffold": 1.0}}
            await run.stage("train-1", "train", step=1, **known)
            last = msgspec.structs.replace(run.task("train", step=3, **known), round=9)
            if name == "late":
                await control.until(lambda: control.beats[-1].working == ())
                control.receipt_status, control.at_submit = "stale", hold
                control.assign(run.task("train", step=2, **known))
                await asyncio.wait_for(come.wait(), PATIENCE_SECONDS)
            control.assign(last)
            if name == "late":
                await control.until(lambda: [round_ for round_, _ in working(control)] == [3, 9])
                worth.set()
            answer = await control.answered(last)
            assert isinstance(answer, Update)
            deltas.append(answer.parts["delta"].blob.digest)
    assert deltas[0] == deltas[1]


async def test_a_stale_error_drops_the_work(control: FakeControl, place: SiteFolder, run: Run) -> None:
    async with living(place):
        control.refuse_submit = lambda _: StaleError("closed")
        control.assign(run.task("check"))
        await control.until(lambda: control.submissions == 1 and control.beats[-1].working == ())
    journal = Journal(place.journal)
    assert journal.in_hand() == ()
    journal.close()


@pytest.mark.parametrize("error", [ShapeError, StateError], ids=["at once", "after some tries"])
async def test_an_update_control_will_not_take_becomes_a_refusal(
    control: FakeControl, place: SiteFolder, run: Run, error: type[ArchipelError]
) -> None:
    control.refuse_submit = lambda answer: error("no", hint="h") if isinstance(answer, Update) else None
    async with living(place):
        task = run.task("check")
        control.assign(task)
        answer = await control.answered(task)
    assert isinstance(answer, Refusal)
    assert (answer.error, answer.message, answer.hint) == (error.__name__, "no", "h")


async def test_an_update_whose_bytes_are_damaged_at_the_site_is_made_again(
    control: FakeControl, place: SiteFolder, run: Run
) -> None:
    async with living(place):
        known = await began(run)
        expected = await run.stage("train-1", "train", step=1, **known)
        spoilt: list[str] = []

        def spoil(answer: Update | Refusal) -> ArchipelError | None:
            if spoilt or not isinstance(answer, Update):
                return None
            digest = answer.parts["delta"].blob.digest
            spoilt.append(digest)
            name = digest.removeprefix("sha256:")
            (place.spool / name[:2] / name).write_bytes(b"rot")
            control.spool.drop(digest)
            return DigestError("wrong bytes")

        control.refuse_submit = spoil
        again = msgspec.structs.replace(run.task("train", step=1, **known), round=8)
        control.assign(again)
        update = await control.answered(again)
    assert spoilt
    assert isinstance(update, Update)
    assert update.parts == expected.parts
    assert control.spool.has(expected.parts["delta"].blob.digest)


@pytest.mark.parametrize("damage", ["cut short", "gone"])
async def test_an_update_whose_file_is_damaged_while_it_is_sent_is_made_again_and_the_desk_goes_on(
    control: FakeControl, place: SiteFolder, tmp_path: Path, damage: str
) -> None:
    run = Run(control, make_job(task={"code": "task.py:Wide"}), put_bundle(control.spool, tmp_path / "job", WIDE))
    spoilt: list[str] = []

    def spoil(offer: Offer) -> None:
        name = offer.blob.digest.removeprefix("sha256:")
        path = place.spool / name[:2] / name
        if spoilt or not path.exists():
            return
        spoilt.append(offer.blob.digest)
        if damage == "gone":
            path.unlink()
        else:
            os.truncate(path, CHUNK_BYTES)

    async with living(place):
        known = await began(run)
        control.at_offer = spoil
        update = await run.stage("train-1", "train", step=1, **known)
        await run.stage("check", "check")
    assert [part.blob.digest for part in update.parts.values()] == spoilt
    assert control.spool.path(spoilt[0]).stat().st_size == update.parts["delta"].blob.size_bytes
    assert "site.failed" not in {note.what for note in control.notes}


async def test_a_task_that_cannot_be_done_is_refused_with_class_and_hint(
    control: FakeControl, place: SiteFolder, run: Run
) -> None:
    run._blank = msgspec.structs.replace(run._blank, job=make_job(data={"dataset": "fish"}))
    async with living(place):
        task = run.task("check")
        control.assign(task)
        answer = await control.answered(task)
    assert isinstance(answer, Refusal)
    assert (answer.error, "fish" in answer.message, "--data" in answer.hint) == ("DataError", True, True)


async def test_a_repeated_assignment_is_one_piece_of_work(control: FakeControl, place: SiteFolder, run: Run) -> None:
    async with living(place):
        task = run.task("check")
        for _ in range(100):
            control.assign(task)
        await control.answered(task)
        await control.until(lambda: control.beats[-1].working == ())
    assert control.submissions == 1


async def test_what_is_left_in_the_spool_by_a_crash_is_removed_at_the_next_start(
    control: FakeControl, place: SiteFolder
) -> None:
    async with living(place) as agent:
        orphan = agent._spool.put(b"nobody's")
        (place.spool / "partial" / "new-half").write_bytes(b"half")
    async with living(place):
        await control.until(lambda: bool(control.hellos))
    assert not agent._spool.has(orphan.digest)
    assert list((place.spool / "partial").iterdir()) == []


async def test_a_model_without_a_file_to_serve_is_noted_for_the_operator(
    control: FakeControl, place: SiteFolder, run: Run
) -> None:
    async with living(place):
        known = await began(run)
        onnx = await run.stage("export", "export", share=True, **known)
        serve = run.serve("global")
        bare = msgspec.structs.replace(serve, model=msgspec.structs.replace(serve.model, onnx=None))
        control.say(bare)
        await control.until(lambda: bool(control.notes))
        control.say(serve)
        await control.until(lambda: bool(control.beats[-1].serving))
    assert control.notes[0].what == "site.serve.failed"
    assert control.beats[-1].serving[0].digest == onnx.parts["onnx"].blob.digest


async def test_a_head_that_does_not_fit_is_refused_and_shown(control: FakeControl, place: SiteFolder) -> None:
    def head(size: int) -> LogGrowth:
        return LogGrowth(since=0, head=control.authority.vouch(size, bytes(32), utc_now()))

    control.always = [head(5), head(3)]
    async with living(place):
        await control.until(lambda: bool(control.notes))
    assert [note.what for note in control.notes] == ["site.audit.refused"]
    status = read_status(place.path)
    assert status is not None
    assert status.witnessed == 5
    assert "it had 5 entries and now has 3" in status.audit
