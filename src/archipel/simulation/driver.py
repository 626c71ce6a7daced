"""Drive a run in this process: the coordinator's instructions carried out by the sites' own worker code.

    Simulation(job, bundle, {"torgersen": Path("data/torgersen"), …}, folder).run(watch) → Outcome

What differs from a live run is only who carries the messages: no network, no journal, no clock. Sites work one after
another, in the order in which the coordinator asks; the result does not depend on it. Blobs of all sites lie in one
spool, so weights that every site reads lie there once; those of a closed round are removed, and so is what an earlier
simulation left in the folder. One that is interrupted goes on from its journal.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from archipel.data.stores.spool import Spool
from archipel.federated.clashes import require_compressed
from archipel.federated.contribution import UnusableUpdateError
from archipel.federated.coordinator import Coordinator
from archipel.federated.folding import carry_out, rejection
from archipel.federated.port import (
    Ask,
    Explain,
    Finish,
    Fold,
    GiveUp,
    Instruction,
    RoundFolded,
    RunEvent,
    SiteRefused,
    UpdateAccepted,
)
from archipel.federated.private_mean import Noising
from archipel.federated.progress import Progress
from archipel.federated.secure.legs import PROTOCOL, is_secure
from archipel.security.privacy import kept_secret
from archipel.simulation.journal import Entry, Journal
from archipel.simulation.secure import authority_in, secure_sites
from archipel.site.worker.execute import Worker
from archipel.site.worker.memory import RunMemory
from archipel.site.worker.secure import SecureSite
from archipel.spec import ArchipelError, Blob, DatasetManifest, JobSpec, Refusal, RoundTask, StateError, Update

RUN = "simulation"
Watch = Callable[[Progress], None]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulated run came to; blobs lie in `spool`."""

    model: Blob
    participation: tuple[tuple[str, ...], ...]
    datasets: dict[str, DatasetManifest]
    sums: Blob | None
    """Added evaluation sums, keys "MODEL|SUM"."""
    site_sums: dict[str, Blob]
    """Site → its own part of them."""
    models: dict[str, Blob]
    """Every model that was scored, by name."""
    progress: Progress
    seconds: dict[str, float]
    """Kind of round → wall time of all sites' work, added."""
    sent: dict[str, int]
    """Kind of round → bytes of what all sites would have sent, added."""


class Simulation:
    """One run over local folders; `folder` is its own while it lasts, and holds what it leaves behind."""

    def __init__(
        self,
        job: JobSpec,
        bundle: bytes,
        data: Mapping[str, Path],
        folder: Path,
        *,
        participation: Sequence[Sequence[str]] | None = None,
        key: str | None = None,
    ) -> None:
        """Open the run; one interrupted in `folder` goes on if it had the same `key`, and not with None."""
        require_compressed(job, data)
        self._job = job
        self._journal = Journal(folder / "journal.jsonl", key)
        if not self._journal.going_on:
            shutil.rmtree(folder / "spool", ignore_errors=True)
            (folder / "noise.key").unlink(missing_ok=True)
        self._noising = Noising.of(job, lambda: kept_secret(folder / "noise.key"))
        self._spool = Spool(folder / "spool")
        self._memories = {site: RunMemory() for site in (*data, *job.helpers)}
        self._workers = {
            site: Worker(site, {job.data.dataset: path}, self._spool, self._memories[site])
            for site, path in data.items()
        }
        self._secure: dict[str, SecureSite] = {}
        authority = None
        if is_secure(job):
            keys = authority_in(folder / "authority")
            authority, self._secure = keys.pem, secure_sites((*data, *job.helpers), keys, self._spool)
        self._coordinator = Coordinator(
            RUN, job, self._spool.put(bundle), data, participation=participation, authority=authority
        )
        self._datasets: dict[str, DatasetManifest] = {}
        self._evaluated: dict[str, Blob] = {}
        self._seconds: dict[str, float] = {}
        self._sent: dict[str, int] = {}
        self._held: set[str] = set()
        self._unmasked: set[str] = set()
        """Blobs of plain answers of the sum under way: sites may have the very same."""
        self._initial: Blob | None = None

    @property
    def spool(self) -> Spool:
        """Where the blobs of the run lie."""
        return self._spool

    def run(self, watch: Watch = lambda _: None) -> Outcome:
        """Carry the run through; `watch` sees the progress after each answer that was not known before.

        Raises:
            StateError: the run was given up; message and hint are the coordinator's.
        """
        todo: deque[Instruction] = deque(self._coordinator.start())
        while todo:
            instruction = todo.popleft()
            if isinstance(instruction, Finish):
                self._journal.clear()
                return self._outcome(instruction)
            is_known = self._journal.going_on
            todo.extend(self._carry(instruction))
            if not is_known:
                watch(self._coordinator.progress())
        raise StateError("the coordinator asks for nothing and has not finished", hint="report this: it is a fault")

    def _carry(self, instruction: Instruction) -> tuple[Instruction, ...]:
        match instruction:
            case Ask(task=task):
                return self._coordinator.handle(self._work(task))
            case Fold():
                return self._fold(instruction)
            case Explain():
                return ()  # who takes no part, and why, is in the progress
            case GiveUp(message=message, hint=hint):
                self._journal.clear()  # what made sites refuse may be mended
                raise StateError(message, hint=hint)
            case _:
                raise StateError(f"an instruction nobody knows: {instruction!r}", hint="report this: it is a fault")

    def _work(self, task: RoundTask) -> RunEvent:
        memory = self._memories[task.site]
        if self._journal.going_on:
            known = self._journal.take()
            if isinstance(known.event, UpdateAccepted):
                memory.keep(task, known.event.update, known.state)
                self._remember(known.event.update)
            return known.event
        event: RunEvent
        try:
            update = self._answer(task)
        except ArchipelError as error:
            event = SiteRefused(refusal=Refusal.of(task, error))
            self._journal.add(Entry(event=event))
            return event
        self._remember(update)
        event = UpdateAccepted(update=update)
        self._journal.add(Entry(event=event, state=memory.state_of(task)))
        return event

    def _answer(self, task: RoundTask) -> Update:
        if task.leg in PROTOCOL:
            said, unneeded = self._secure[task.site].speak(task)
            for digest in unneeded:
                self._spool.drop(digest)
            return said
        update = self._workers[task.site].execute(task, lambda _: None)
        if task.leg is None:
            return update
        said, dropped = self._secure[task.site].prepare(task, update)
        self._unmasked |= {part.blob.digest for part in update.parts.values()}
        for digest in dropped - self._unmasked:
            self._spool.drop(digest)
        return said

    def _fold(self, instruction: Fold) -> tuple[Instruction, ...]:
        is_known = self._journal.going_on
        if is_known:
            event = self._journal.take().event
        else:
            try:
                event = carry_out(instruction, self._job.federation, self._spool, noising=self._noising)
            except UnusableUpdateError as error:
                event = rejection(instruction, error)
            self._journal.add(Entry(event=event))
        following = self._coordinator.handle(event)
        if isinstance(event, RoundFolded):
            self._sweep(instruction, event, drop=not is_known)
        return following

    def _remember(self, update: Update) -> None:
        self._seconds[update.kind] = self._seconds.get(update.kind, 0.0) + update.seconds
        sent = sum(part.blob.size_bytes for part in update.parts.values() if part.shared)
        self._sent[update.kind] = self._sent.get(update.kind, 0) + sent
        if update.dataset is not None:
            self._datasets[update.site] = update.dataset
        if update.kind == "evaluate" and "sums" in update.parts:
            self._evaluated[update.site] = update.parts["sums"].blob

    def _sweep(self, fold: Fold, folded: RoundFolded, *, drop: bool) -> None:
        """Remove what a closed training round leaves: its updates, the model and the state it began from.

        The first model stays: sites that train alone begin from it, after the last round. A round that is only known
        drops nothing: the open round may have brought the very bytes again.
        """
        self._unmasked.clear()
        if fold.kind == "initialise":
            self._initial = folded.model
        if fold.kind != "train":
            return
        kept = {blob.digest for blob in (self._initial, folded.model, folded.state) if blob is not None}
        gone = {part.blob.digest for update in fold.updates for part in update.parts.values()}
        gone |= {blob.digest for blob in (fold.model, fold.state) if blob is not None}
        held = {digest for memory in self._memories.values() for digest in memory.held()}
        gone |= self._held
        self._held = held
        for digest in gone - kept - held if drop else ():
            self._spool.drop(digest)

    def _outcome(self, finish: Finish) -> Outcome:
        return Outcome(
            model=finish.model,
            participation=finish.participation,
            datasets=self._datasets,
            sums=finish.sums,
            site_sums=self._evaluated,
            models={named.name: named.blob for named in finish.models},
            progress=self._coordinator.progress(),
            seconds=self._seconds,
            sent=self._sent,
        )
