"""Desk: takes tasks, has them done by warm workers, and brings the answers to control.

Each task goes through these steps; a crash between any two of them loses nothing, for each begins with what the
journal and the spool hold:

    assigned   in the journal                                             (at the next start it is taken up again)
    admitted   by the site's policy, where it may wait, and by the privacy ledger, which reserves what the run releases
    fetched    its blobs are in the spool                                 (transfers go on where they broke)
    answered   update (or refusal), new state and what it costs in the journal, together
    delivered  parts sent, answer submitted, receipt received
    cleared    out of the journal; blobs nobody needs any more are removed

Rules: one execution at a time a run, in a process of its own; a task of a later round supersedes the execution of an
earlier one; an answer that is there is delivered, never made again, unless its bytes were lost. A round begins once
control has said what the site's earlier answers of the run are worth: only what was counted leaves a state to stand on.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from archipel.data.stores.spool import Spool
from archipel.federated.secure.legs import PROTOCOL
from archipel.site.agent.gate import Gate
from archipel.site.agent.line import Line
from archipel.site.journal import Answer, Journal
from archipel.site.link.backoff import Backoff
from archipel.site.link.dial import Link
from archipel.site.link.protocol import failure_of
from archipel.site.link.transfer import fetch, send
from archipel.site.worker.memory import PERSONALISED_ONNX
from archipel.site.worker.process import AbandonedError, Post, WorkerProcess
from archipel.site.worker.secure import SecureSite
from archipel.spec import (
    ArchipelError,
    Blob,
    BudgetError,
    DigestError,
    LinkError,
    Refusal,
    RoundTask,
    SealError,
    StaleError,
    StateError,
    StorageFullError,
    TaskError,
    TrustError,
    Update,
    failpoint,
)
from archipel.spec.wire import Note, Waits, Working

IDLE_SECONDS = 1800.0
"""A worker without work for so long ends; the next task of its run starts another, which reads the data again: so
longer than a small site usually waits for the largest one."""
_LOG = logging.getLogger("archipel.site")
_STATE_TRIES = 3
"""So often an update is handed in again where control says that something is missing."""
Key = tuple[str, int]
Say = Callable[[Note], None]


class _LostBytesError(Exception):
    """A part of an answer is no longer in the spool, or no longer what it was."""


class _Piece(msgspec.Struct, kw_only=True):
    """A task in progress."""

    task: RoundTask
    doing: asyncio.Task[None]
    done: float = 0.0
    executing: bool = False
    waits: Waits = ""
    answered: bool = False
    """Its answer is on its way to control, or there; the journal has nothing of it any more once that is settled."""


class _Warm(msgspec.Struct, kw_only=True):
    """A worker and what waits for it."""

    worker: WorkerProcess
    turn: asyncio.Lock
    retire: asyncio.TimerHandle | None = None


class Desk:
    """Everything a site does for its runs."""

    def __init__(
        self,
        site: str,
        *,
        journal: Journal,
        spool: Spool,
        line: Line,
        changed: Callable[[], None],
        note: Say,
        random: Callable[[], float],
        needed: Callable[[], frozenset[str]],
        secure: SecureSite,
        gate: Gate,
    ) -> None:
        self._site = site
        self._journal = journal
        self._spool = spool
        self._line = line
        self._changed = changed
        self._note = note
        self._random = random
        self._needed = needed
        self._secure = secure
        self._gate = gate
        self._pieces: dict[Key, _Piece] = {}
        self._warm: dict[tuple[str, str], _Warm] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._forgetting: set[asyncio.Task[None]] = set()

    def working(self) -> tuple[Working, ...]:
        """Work in hand and how far it is."""
        return tuple(
            Working(run=run, round=round_, done=piece.done, waits=piece.waits)
            for (run, round_), piece in sorted(self._pieces.items())
        )

    def take(self, task: RoundTask) -> None:
        """Begin a task, unless it is in hand; what an earlier round of its run still executes is given up."""
        key = (task.run, task.round)
        if key in self._pieces:
            return
        for (run, round_), piece in self._pieces.items():
            if run == task.run and round_ < task.round and piece.executing:
                self._warm_of(piece.task).worker.abandon()
        doing = asyncio.get_running_loop().create_task(self._do(task))
        self._pieces[key] = _Piece(task=task, doing=doing)
        doing.add_done_callback(lambda _: self._left(key))
        self._changed()

    async def cancel(self, run: str) -> None:
        """Stop working on a run and drop its tasks without an answer.

        Once begun it is carried through, also when the link breaks or the agent ends meanwhile.
        """
        cancelling = asyncio.get_running_loop().create_task(self._cancel(run))
        self._closing.add(cancelling)
        cancelling.add_done_callback(self._closing.discard)
        await asyncio.shield(cancelling)

    def forget(self, run: str) -> None:
        """Begin to drop all that is kept of a run that is over, but for the site's own copy of its model.

        Answers that are there are delivered first: only their receipts say whether such a copy counts. Where the agent
        ends meanwhile, `remembered` still names the run, and control says so again.
        """
        forgetting = asyncio.get_running_loop().create_task(self._forget(run))
        self._forgetting.add(forgetting)
        forgetting.add_done_callback(self._forgetting.discard)

    def remembered(self) -> tuple[str, ...]:
        """Return the runs of which there is something to forget."""
        return self._journal.remembered(PERSONALISED_ONNX)

    async def _forget(self, run: str) -> None:
        await self.cancel(run)
        delivering = [piece.doing for (name, _), piece in self._pieces.items() if name == run]
        await asyncio.gather(*delivering, return_exceptions=True)
        self._drop(await asyncio.to_thread(self._journal.forget, run, PERSONALISED_ONNX))

    async def _cancel(self, run: str) -> None:
        pieces = [piece for (name, _), piece in self._pieces.items() if name == run]
        pieces = [piece for piece in pieces if not self._is_answered(piece)]
        for piece in pieces:
            piece.doing.cancel()
        await asyncio.gather(*(piece.doing for piece in pieces), return_exceptions=True)
        for key in [key for key in self._warm if key[0] == run]:
            await self._close(key)
        for piece in pieces:
            self._drop(await asyncio.to_thread(self._journal.clear, piece.task, counted=False))

    def _is_answered(self, piece: _Piece) -> bool:
        """Is its answer there? Control may have counted it, only the receipt was lost: it will say what it is worth."""
        work = self._journal.work(piece.task.run, piece.task.round)
        return piece.answered or (work is not None and work.answer is not None)

    async def close(self) -> None:
        """Stop everything, with the worker processes; the journal knows what to go on with."""
        for forgetting in self._forgetting:
            forgetting.cancel()
        await asyncio.gather(*self._closing, *self._forgetting, return_exceptions=True)
        pieces = list(self._pieces.values())
        for piece in pieces:
            piece.doing.cancel()
        await asyncio.gather(*(piece.doing for piece in pieces), return_exceptions=True)
        for key in list(self._warm):
            await self._close(key)

    def _left(self, key: Key) -> None:
        piece = self._pieces.pop(key)
        if not piece.doing.cancelled() and (error := piece.doing.exception()) is not None:
            said = error if isinstance(error, ArchipelError) else None
            hint = said.hint if said else "report this: it is a fault"
            self._note(
                Note(what="site.failed", level="error", run=key[0], detail={"message": str(error), "hint": hint})
            )
        self._changed()

    # ---- one task -------------------------------------------------------------------------------------------

    async def _do(self, task: RoundTask) -> None:
        counted = False
        try:
            answer = (await asyncio.to_thread(self._journal.assign, task)).answer
            counted = await self._insist(task, answer)
        except AbandonedError:
            pass  # a later round took its place
        except StorageFullError as full:
            # Not even the journal has room: control is told, and asks again once the run is resumed.
            refusal = _refusal(task, full)
            await self._line.insist(lambda link: link.submit(refusal))
        self._drop(await asyncio.to_thread(self._journal.clear, task, counted=counted))

    async def _insist(self, task: RoundTask, answer: Answer | None) -> bool:
        """Bring the answer to control, made first if there is none; return whether it was counted."""
        piece = self._pieces[task.run, task.round]
        while True:
            answer = answer or await self._answer(task)
            piece.done, piece.answered = 1.0, True
            try:
                return await self._deliver(task, answer)
            except _LostBytesError:
                piece.answered = False
                await asyncio.to_thread(self._journal.reopen, task)
                answer = None

    async def _answer(self, task: RoundTask) -> Answer:
        state: dict[str, Blob] = {}
        answer: Answer
        try:
            await self._gate.admit(task, self._bring, partial(self._hold, self._pieces[task.run, task.round]))
            await self._fetch(task)
            answer, state = await self._made(task)
        except StaleError as error:
            raise AbandonedError from error  # nobody waits for the answer any more
        except ArchipelError as error:
            answer = await self._refused(task, error)
        except (AbandonedError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001
            # Whatever it is, a run must not wait for an answer that never comes.
            _LOG.exception("%s of run %s", task.kind, task.run)
            failed = TaskError(f"the agent failed: {type(error).__name__}", hint="the site's log says where")
            answer = _refusal(task, failed)
        try:
            await asyncio.to_thread(self._journal.finish, task, answer, state)
        except BudgetError as error:
            answer = await self._refused(task, error)
            await asyncio.to_thread(self._journal.finish, task, answer, {})
        return answer

    async def _made(self, task: RoundTask) -> tuple[Update, dict[str, Blob]]:
        """Make the answer: by the worker, or where the site speaks for itself in a secure sum, here."""
        if task.leg in PROTOCOL:
            await self._settle_before(task)
            said, dropped = await asyncio.to_thread(self._secure.speak, task)
            self._drop(dropped)
            return said, {}
        self._secure.require_allowed(task)
        update, state = await self._execute(task)
        if task.leg is None:
            return update, state
        said, dropped = await asyncio.to_thread(self._secure.prepare, task, update)
        self._drop(dropped)
        return said, state

    def _hold(self, piece: _Piece, waits: Waits) -> None:
        piece.waits = waits
        self._changed()

    async def _refused(self, task: RoundTask, error: ArchipelError) -> Refusal:
        if isinstance(error, TrustError):
            await asyncio.to_thread(self._gate.record, task, error)
        return _refusal(task, error)

    async def _fetch(self, task: RoundTask) -> None:
        for blob in task.blobs().values():
            await self._bring(blob)

    async def _bring(self, blob: Blob) -> None:
        await self._line.insist(partial(fetch, spool=self._spool, blob=blob))

    async def _execute(self, task: RoundTask) -> tuple[Update, dict[str, Blob]]:
        await self._settle_before(task)  # first: while it waits, a worker that is idle may be retired
        warm = self._warm_of(task)
        async with warm.turn:
            _keep(warm)
            piece = self._pieces[task.run, task.round]
            if any(run == task.run and round_ > task.round for run, round_ in self._pieces):
                raise AbandonedError
            piece.executing = True
            try:
                state = self._journal.recall(task.run, task.round)
                return await warm.worker.execute(task, state, lambda done: setattr(piece, "done", done))
            finally:
                piece.executing = False
                self._retire_later(task, warm)

    async def _settle_before(self, task: RoundTask) -> None:
        """Wait until earlier rounds of the run are delivered, or given up: a quorum may have gone on without them."""
        earlier = [
            item.doing for (run, round_), item in self._pieces.items() if run == task.run and round_ < task.round
        ]
        if earlier:
            await asyncio.wait(earlier)

    # ---- delivery -------------------------------------------------------------------------------------------

    async def _deliver(self, task: RoundTask, answer: Answer) -> bool:
        backoff, tries = Backoff(self._random), 0
        while True:
            link = await self._line.link()
            try:
                return await self._hand_in(link, answer)
            except StaleError:
                return False
            except DigestError as error:
                if await asyncio.to_thread(self._is_damaged, answer):
                    raise _LostBytesError from error
                answer = await self._give_up(task, answer, error)
            except (LinkError, StorageFullError, TrustError) as error:
                self._tell_once(task, error, tries)
            except ArchipelError as error:
                if not isinstance(error, StateError) or tries >= _STATE_TRIES:
                    answer = await self._give_up(task, answer, error)
            tries += 1
            await asyncio.sleep(backoff.next_seconds())

    async def _hand_in(self, link: Link, answer: Answer) -> bool:
        for part in answer.parts.values() if isinstance(answer, Update) else ():
            if not part.shared:
                continue
            if not self._spool.has(part.blob.digest):
                raise _LostBytesError
            await send(link, self._spool, answer.run, part.blob)
            failpoint("site.send.after_part")
        failpoint("site.submit.before_call")
        receipt = await link.submit(answer)
        failpoint("site.submit.after_receipt")
        return receipt.status != "stale" and isinstance(answer, Update)

    async def _give_up(self, task: RoundTask, answer: Answer, error: ArchipelError) -> Answer:
        """Replace an update control will not take by a refusal; a refusal it will not take stays in the journal."""
        if isinstance(answer, Refusal):
            raise error
        refusal = _refusal(task, error)
        await asyncio.to_thread(self._journal.finish, task, refusal, {})
        return refusal

    def _tell_once(self, task: RoundTask, error: ArchipelError, tries: int) -> None:
        if tries == 0 and not isinstance(error, LinkError):
            detail: dict[str, bool | int | float | str | None] = {"message": error.message, "hint": error.hint}
            self._note(Note(what="site.delivery.waits", level="warning", run=task.run, detail=detail))

    def _is_damaged(self, answer: Answer) -> bool:
        """Drop every part whose file is not what its digest says; was there one?"""
        bad = [
            part.blob.digest
            for part in (answer.parts.values() if isinstance(answer, Update) else ())
            if self._digest(part.blob.digest) != part.blob.digest
        ]
        self._drop(set(bad))
        return bool(bad)

    def _digest(self, digest: str) -> str | None:
        """Return what the file of a blob holds; None where it is gone, or the disk cannot read it."""
        try:
            with self._spool.open(digest) as file:
                return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, SealError, StateError):
            return None

    def _drop(self, digests: set[str]) -> None:
        # Asked again here: a task that was journaled since may need the very bytes (a lone site's sums are the total),
        # and one that is journaled later looks into the spool only after this. What will be served is needed too.
        for digest in digests - self._journal.live() - self._needed():
            self._spool.drop(digest)

    # ---- workers --------------------------------------------------------------------------------------------

    def _warm_of(self, task: RoundTask) -> _Warm:
        key = (task.run, task.bundle.digest)
        if key not in self._warm:
            self._warm[key] = _Warm(worker=WorkerProcess(self._post(task)), turn=asyncio.Lock())
        return self._warm[key]

    def _post(self, task: RoundTask) -> Post:
        """Say what the run's worker gets of the site: of its data sets the one that the job is about."""
        datasets = {name: path.resolve() for name, path in self._journal.datasets().items()}
        mine = {name: path for name, path in datasets.items() if name == task.job.data.dataset}
        return Post(
            site=self._site,
            folder=self._spool.folder.parent.resolve(),
            spool=self._spool,
            guard=self._gate.guard,
            data=mine,
            hidden=tuple(path for name, path in datasets.items() if name not in mine),
            gpu=task.job.resources.device != "cpu",
        )

    def _retire_later(self, task: RoundTask, warm: _Warm) -> None:
        loop = asyncio.get_running_loop()

        def retire() -> None:
            closing = loop.create_task(self._close((task.run, task.bundle.digest)))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

        _keep(warm)
        warm.retire = loop.call_later(IDLE_SECONDS, retire)

    async def _close(self, key: tuple[str, str]) -> None:
        warm = self._warm.pop(key, None)
        if warm is not None:
            _keep(warm)
            await warm.worker.close()


def _keep(warm: _Warm) -> None:
    """Do not retire a worker after all."""
    if warm.retire is not None:
        warm.retire.cancel()
        warm.retire = None


def _refusal(task: RoundTask, error: ArchipelError) -> Refusal:
    said = failure_of(error)
    return Refusal(
        run=task.run, round=task.round, site=task.site, error=said.error, message=said.message, hint=said.hint
    )
