"""The driver of one run: keeps each event, lets the coordinator handle it, carries out what it says.

    1. events wait in line; whoever gets the lock takes all that wait          (one commit for many)
    2. the coordinator handles them; those it refuses go back to who brought them
    3. the rest are written to the journal, in one transaction with all that follows from them
    4. only then are the new instructions carried out: Ask is pushed, Fold and Finish go to the workshop

Killed between any two steps, the run is rebuilt from its journal and `outstanding()` is carried out again: state is
nothing but the journal and the blobs it names. Where step 3 fails, nobody is told yes, and the coordinator is rebuilt
before anybody is told anything else.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec
from sqlalchemy import Connection

from archipel.control.services.audit import EventLog
from archipel.control.services.rounds import traffic
from archipel.control.services.rounds.needs import Needs
from archipel.control.services.rounds.notices import Notices
from archipel.control.services.rounds.record import Entry, Step, keep_within
from archipel.control.services.rounds.traffic import Traffic
from archipel.control.services.sites.presence import Attendances
from archipel.control.store import journal
from archipel.control.store.database import Database
from archipel.control.store.holdings import Holdings
from archipel.federated.coordinator import Coordinator
from archipel.federated.port import (
    Ask,
    Explain,
    Finish,
    Fold,
    GiveUp,
    Instruction,
    RunEvent,
    RunStopped,
    SiteBack,
    SiteLost,
    SiteRefused,
    UpdateAccepted,
    UpdateRejected,
)
from archipel.spec import ArchipelError, Blob, JobSpec, Leg, Refusal, RoundTask, SpecError, Update, failpoint
from archipel.spec.wire import Assign, Cancel

Answer = Literal["accepted", "duplicate", "stale"]
MOST_BLOBS = 64
"""That a site may send for one task; an answer has a few parts."""


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """What drivers share."""

    database: Database
    log: EventLog
    attendances: Attendances
    holdings: Holdings
    notices: Notices
    clock: Callable[[], float]
    """Seconds since the Unix epoch."""
    monotonic: Callable[[], float]
    max_answer_bytes: int
    """The most a site may send for one task."""
    authority: str
    """Certificate (PEM) of the authority that certifies sites."""
    work: Callable[[str, Fold | Finish], None]
    """Hands a Fold or Finish of a run to the workshop."""
    delay: Callable[[Driver, ArchipelError], None]
    """A run could not keep what happened: it stands still for a while, and is tried again."""


class Driver:
    """One run under way; safe for several threads."""

    def __init__(self, desk: Desk, run: str, job: JobSpec, bundle: Blob, sites: tuple[str, ...]) -> None:
        self._desk = desk
        self.run = run
        self.job = job
        self.bundle = bundle
        self.sites = sites
        self.parties = (*sites, *job.helpers)
        """Whoever is asked something: the sites, and the helper of their sums."""
        self.traffic = Traffic()
        self.trouble: ArchipelError | None = None
        """Why it stands still for a while (a full disk); it is tried again."""
        self._queue: deque[_Waiting] = deque()
        self._announced: dict[str, dict[str, int]] = {}
        """Site → what it has sent for its task, or begun to: digest → bytes."""
        self._pushed: dict[str, float] = {}
        """Site → when it was last pushed its task, by the monotonic clock."""
        self._lock = threading.RLock()
        self._doubtful = True
        """What is in memory may be ahead of the journal."""
        with self._built():
            pass

    @property
    def holder(self) -> str:
        """Its name in the holdings."""
        return f"run/{self.run}"

    # ---- events ------------------------------------------------------------------------------------------------

    def receipt(self, answer: Update | Refusal) -> Answer:
        """Say what an answer is worth by all that is kept, without counting it."""
        with self._built():
            return self.coordinator.receipt(answer)

    def take(self, event: RunEvent) -> Answer:
        """Keep and handle an event; "duplicate" and "stale" change nothing.

        Raises:
            ArchipelError: it could not be kept (StorageFullError, LinkError), or makes no sense now (StateError).
        """
        waiting = _Waiting(event)
        self._queue.append(waiting)
        closed = False
        with self._lock:
            while not waiting.done:
                closed |= self._take_waiting()
        if closed:
            self._desk.holdings.drop_left()
            failpoint("control.round.after_drop")
        return waiting.answer()

    def carry_out_outstanding(self) -> None:
        """Do again all that is open: after a start."""
        with self._built():
            self._carry_out(self.coordinator.outstanding())

    def call_on(self, site: str) -> None:
        """Push again what is asked of a site: it has just come."""
        with self._built():
            if not self.coordinator.paused and site in self.tasks:
                self._push(self.tasks[site])

    def remind(self, site: str, rounds: frozenset[int]) -> None:
        """Push again what is asked of a site that has not been working on it for a lease, as its beat shows.

        A message may cross another: an Assign that comes while the site still hands in an earlier answer to it.
        """
        with self._built():
            task = self.tasks.get(site)
            if task is None or task.round in rounds or self.coordinator.paused:
                return
            if self._desk.monotonic() - self._pushed.get(site, 0.0) > self._desk.attendances.busy_seconds:
                self._push(task)

    def task_for(self, site: str) -> RoundTask | None:
        """Return what is asked of a site now."""
        with self._built():
            return self.tasks.get(site)

    def admit(self, site: str, blob: Blob) -> RoundTask | None:
        """Let a site send a blob of its answer, and hold what comes of it until the round closes.

        Returns:
            The task it is for; None where nothing is asked of the site.

        Raises:
            SpecError: with this blob, the site would send more for its task than it may.
        """
        with self._built():
            task = self.tasks.get(site)
            if task is None:
                return None
            announced = self._announced.setdefault(site, {})
            sizes = announced | {blob.digest: max(blob.size_bytes, announced.get(blob.digest, 0))}
            if sum(sizes.values()) > self._desk.max_answer_bytes or len(sizes) > MOST_BLOBS:
                hint = f"for a task, control takes {MOST_BLOBS} blobs and {self._desk.max_answer_bytes} bytes at most"
                raise SpecError(f"a blob of {blob.size_bytes} bytes is too large, or one too many", hint=hint)
            self._announced[site] = sizes
            self.needs.open.add(blob.digest)
            self._desk.holdings.hold(self.holder, [blob.digest], stored=False)
            return task

    def is_open(self, fold: Fold) -> bool:
        """Is this fold still to be done? Not where it was done meanwhile, or the run was stopped."""
        with self._built():
            return fold in self.coordinator.outstanding()

    def needs_word(self, event: SiteLost | SiteBack) -> bool:
        """Would it be news to the run that this site is lost, or back?"""
        with self._built():
            lost = event.site in self.coordinator.progress().lost
        return lost == isinstance(event, SiteBack)

    # ---- the four steps ----------------------------------------------------------------------------------------

    def _take_waiting(self) -> bool:
        """Carry out the steps for all that waits; was a round closed?"""
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        steps: list[Step] = []
        instructions: list[Instruction] = []
        try:
            self._ensure_built()
            for waiting in batch:
                self._handle(waiting, steps, instructions)
            if steps:
                self._keep(steps, instructions)
        except Exception as error:  # noqa: BLE001 - given to everyone who waits for this commit
            self._doubtful = True
            for waiting in batch:
                waiting.fail(error)
            if isinstance(error, ArchipelError):
                self._desk.delay(self, error)
            return False
        finally:
            for waiting in batch:
                waiting.done = True
        self._follow(steps, instructions)
        return any(step.closed for step in steps)

    def _handle(self, waiting: _Waiting, steps: list[Step], instructions: list[Instruction]) -> None:
        event = waiting.event
        try:
            if isinstance(event, UpdateAccepted | SiteRefused):
                answer = event.update if isinstance(event, UpdateAccepted) else event.refusal
                waiting.value = self.coordinator.receipt(answer)
                if waiting.value != "accepted":
                    return
            number, course = self.coordinator.number, self.coordinator.progress()
            new = self.coordinator.handle(event)
        except ArchipelError as error:
            waiting.fail(error)
            return
        counted = isinstance(event, UpdateAccepted) and self.coordinator.receipt(event.update) == "duplicate"
        closed = self.coordinator.number > number
        self.needs.note(event, course.phase)
        _note_answer(self.answers, event, counted=counted)
        steps.append(
            Step(
                event=event,
                number=number,
                kind=course.phase,
                training_round=course.step if course.phase == "train" else 0,
                leg=course.leg,
                counted=counted,
                closed=closed,
                opened_at=self.opened_at,
                unusable=tuple(item.refusal for item in new if isinstance(item, Explain)),
                folded=tuple(self.answers.values()) if closed else (),
            )
        )
        self._settle(event, closed=closed)
        instructions += new

    def _settle(self, event: RunEvent, *, closed: bool) -> None:
        """Follow the open round in memory."""
        if isinstance(event, UpdateAccepted | SiteRefused):
            answer = event.update if isinstance(event, UpdateAccepted) else event.refusal
            self.tasks.pop(answer.site, None)
            self._desk.attendances.release(answer.site, self.run)
        if closed:
            for site in self.tasks:
                self._desk.attendances.release(site, self.run)
            self.tasks.clear()
            self._announced.clear()
            self.answers.clear()
            self.needs.close_round()
            self.opened_at = self._desk.clock()

    def _keep(self, steps: list[Step], instructions: list[Instruction]) -> None:
        moved = self.traffic.take()
        now = self._desk.clock()
        given_up = next((item for item in instructions if isinstance(item, GiveUp)), None)
        entry = Entry(run=self.run, first=self.length, steps=steps, given_up=given_up, now=now)

        def change(connection: Connection) -> None:
            keep_within(connection, self._desk.log, entry)
            traffic.write_within(connection, self.run, moved)

        try:
            failpoint("control.journal.before_commit")
            self._desk.database.write(change)
        except ArchipelError:
            self.traffic.put_back(moved)
            raise
        self.length += len(steps)
        failpoint("control.journal.after_commit")
        for step in steps:
            if step.closed:
                _pass_leg(step.leg)

    def _follow(self, steps: Iterable[Step], instructions: Iterable[Instruction]) -> None:
        if any(step.closed for step in steps):
            self._drop_unneeded()
        if any(isinstance(step.event, RunStopped) for step in steps):
            self._desk.attendances.dismiss(tuple(self.tasks), Cancel(run=self.run))
        self._carry_out(instructions)
        self._desk.notices.changed(self.run)

    def _carry_out(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Ask(task=task):
                    self.tasks[task.site] = task
                    self._push(task)
                case Fold() | Finish():
                    self._desk.work(self.run, instruction)
                case GiveUp() | Explain():
                    pass  # written with the event that led to it

    def _push(self, task: RoundTask) -> None:
        self._pushed[task.site] = self._desk.monotonic()
        self._desk.attendances.assign(task.site, self.run, Assign(task=task), self._desk.monotonic())

    def _drop_unneeded(self) -> None:
        needed = self.needs.digests()
        holdings = self._desk.holdings
        holdings.hold(self.holder, needed, stored=False)
        holdings.let_go(self.holder, holdings.held_by(self.holder) - needed)

    # ---- the way back ------------------------------------------------------------------------------------------

    @contextmanager
    def _built(self) -> Iterator[None]:
        """Hold the lock, over a state that is not ahead of the journal."""
        with self._lock:
            self._ensure_built()
            yield

    def _ensure_built(self) -> None:
        """Make the state again from the journal, where what is in memory may be ahead of it; all of it, or nothing."""
        if not self._doubtful:
            return
        authority, needs = self._desk.authority, Needs(self.bundle)
        coordinator = Coordinator(self.run, self.job, self.bundle, self.sites, authority=authority)
        answers: dict[str, Update] = {}
        opened_at = self._desk.clock()
        history = self._desk.database.read(lambda connection: list(journal.replay(connection, self.run)))
        for at, event in history:
            number, kind = coordinator.number, coordinator.progress().phase
            coordinator.handle(event)
            needs.note(event, kind)
            counted = isinstance(event, UpdateAccepted) and coordinator.receipt(event.update) == "duplicate"
            _note_answer(answers, event, counted=counted)
            if coordinator.number > number:
                needs.close_round()
                answers.clear()
                opened_at = at
        asked = (item.task for item in coordinator.outstanding() if isinstance(item, Ask))
        self.tasks: dict[str, RoundTask] = {task.site: task for task in asked}
        self.coordinator, self.needs, self.answers = coordinator, needs, answers
        self.length, self.opened_at = len(history), opened_at
        self._desk.holdings.hold(self.holder, needs.digests())
        self._doubtful = False


def _pass_leg(leg: Leg | None) -> None:
    """Die between a leg of a secure sum that is closed and what follows from it, if a test asks for it."""
    match leg:
        case "compute":
            failpoint("control.leg.compute")
        case "advertise":
            failpoint("control.leg.advertise")
        case "share":
            failpoint("control.leg.share")
        case "mask":
            failpoint("control.leg.mask")
        case "consent":
            failpoint("control.leg.consent")
        case "release":
            failpoint("control.leg.release")


def _note_answer(answers: dict[str, Update], event: RunEvent, *, counted: bool) -> None:
    """Follow who has answered in the open round."""
    if isinstance(event, UpdateAccepted) and counted:
        answers[event.update.site] = event.update
    elif isinstance(event, UpdateRejected):
        answers.pop(event.refusal.site, None)


class _Waiting:
    """An event in line."""

    def __init__(self, event: RunEvent) -> None:
        self.event = event
        self.value: Answer = "accepted"
        self.done = False
        self._error: Exception | None = None

    def fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error

    def answer(self) -> Answer:
        if self._error is not None:
            raise self._error
        return self.value
