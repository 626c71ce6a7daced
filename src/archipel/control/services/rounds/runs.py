"""All runs under way: starts them when enough sites are here, takes answers, follows who comes and goes.

At a start every unfinished run is rebuilt from its journal and goes on where it stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from archipel.control.services.audit import EventLog, keep_within
from archipel.control.services.jobs.bundles import HOLDER as BUNDLES
from archipel.control.services.models.registry import Registry
from archipel.control.services.rounds.driver import Answer, Desk, Driver
from archipel.control.services.rounds.finishing import Finisher, model_holder
from archipel.control.services.rounds.notices import Notices
from archipel.control.services.rounds.verification import verify
from archipel.control.services.rounds.workshop import After, Workshop, report_holder
from archipel.control.services.sites.fleet import Fleet
from archipel.control.services.sites.presence import Attendances
from archipel.control.store import journal
from archipel.control.store import runs as rows
from archipel.control.store.database import Database
from archipel.control.store.holdings import Holdings
from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.federated.coordinator import Coordinator
from archipel.federated.port import (
    Finish,
    Fold,
    RunResumed,
    RunStopped,
    SiteBack,
    SiteLost,
    SiteRefused,
    UpdateAccepted,
)
from archipel.federated.robust.cohorts import least_sites
from archipel.spec import (
    ArchipelError,
    Blob,
    Kind,
    Refusal,
    RoundTask,
    SpecError,
    StaleError,
    StateError,
    TaskError,
    UnknownNameError,
    Update,
    failpoint,
)
from archipel.spec.views import Moved
from archipel.spec.wire import Cancel, Forget, Offer, Receipt, Working

Clock = Callable[[], float]
RETRY_SECONDS = 2.0
"""A run that stands still for want of space, or of its artefact store, is tried again this often."""


class Readable(msgspec.Struct, frozen=True, kw_only=True):
    """A blob a site may fetch, and what for."""

    blob: Blob
    run: str | None = None
    kind: Kind = "export"


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What runs are made with."""

    database: Database
    log: EventLog
    fleet: Fleet
    attendances: Attendances
    registry: Registry
    holdings: Holdings
    notices: Notices
    spool: Spool
    artefacts: Artefacts
    max_answer_bytes: int
    noise_key: Path
    """File of the secret that the noise of runs with [privacy.central] follows from; made when first needed."""
    authority: str
    """Certificate (PEM) of the authority that certifies sites."""


class Runs:
    """Every run that is not over."""

    def __init__(self, tools: Tools, clock: Clock, monotonic: Clock) -> None:
        self._tools = tools
        self._clock = clock
        self._monotonic = monotonic
        self._drivers: dict[str, Driver] = {}
        self._retry_at: dict[str, float] = {}
        self._untold: set[str] = set()
        """Sites that were lost or found again, until every run that wants to know has been told."""
        self._lock = threading.Lock()
        self._desk = Desk(
            database=tools.database,
            log=tools.log,
            attendances=tools.attendances,
            holdings=tools.holdings,
            notices=tools.notices,
            clock=clock,
            monotonic=monotonic,
            max_answer_bytes=tools.max_answer_bytes,
            authority=tools.authority,
            work=self._work,
            delay=self._delay,
        )
        self._finisher = Finisher(self._desk, tools.registry, tools.spool, tools.artefacts)
        after = After(delay=self._delay, done=self._done)
        self._workshop = Workshop(
            tools.spool, tools.artefacts, tools.holdings, self._finisher, after, noise_key=tools.noise_key
        )

    # ---- start and end of the process ---------------------------------------------------------------------------

    def load(self) -> None:
        """Go on with every unfinished run."""
        found = self._tools.database.read(rows.run_rows)
        self._hold_results(found)
        for row in reversed(found):
            if row.state in rows.UNFINISHED and row.sites is not None:
                driver = self._open(row)
                self._tools.attendances.expect(driver.parties, self._monotonic())
                driver.carry_out_outstanding()
            elif row.state == "finished" and row.tidied_at is None:
                self._finisher.tidy(self._open(row))
                self._drivers.pop(row.id)
        if not self._drivers:
            self._tools.holdings.sweep()

    def close(self) -> None:
        """Stop working; nothing is lost."""
        self._workshop.close()

    def tick(self) -> None:
        """Called a few times a second: ends leases, tries again what waits."""
        now = self._monotonic()
        self._untold.update(self._tools.attendances.expire(now))
        for site in sorted(self._untold):
            self._tell_runs(site)
        for run, at in list(self._retry_at.items()):
            if now >= at:
                self._retry_at.pop(run, None)
                self._try_again(run)

    # ---- operators ----------------------------------------------------------------------------------------------

    def begin(self, run: str) -> None:
        """Start a submitted run if its sites are here; otherwise it waits for them."""
        row = self._row(run)
        if row.state != "waiting":
            return
        job = rows.job_of(row)
        holders = self._tools.fleet.present_holders(job.data.dataset)
        here = tuple(site for site in holders if site not in job.helpers)
        named = job.federation.sites
        coming = tuple(site for site in named if site in here) if named else here
        least = least_sites(job.federation)
        if len(coming) < least:
            reason = f"{len(coming)} of at least {least} sites with {job.data.dataset!r} are here"
            hint = "start the agents of the sites; the run starts by itself"
            self._tools.database.write(lambda connection: rows.keep_waiting(connection, run, reason, hint))
            self._tools.notices.changed(run)
            return
        self._start(run, tuple(sorted(named or here)))

    def stop(self, run: str, actor: str) -> None:
        """Stop a run; `resume` goes on from here."""
        with self._lock:  # it does not begin meanwhile
            row = self._row(run)
            if row.state in {"finished", "stopped"}:
                raise StateError(f"run {run} is {row.state}", hint="nothing to stop")
            if row.sites is None:
                self._mark(run, "stopped", "stopped before it began", actor)
                return
        self.driver(run).take(RunStopped())

    def resume(self, run: str, actor: str) -> None:
        """Let a stopped or failed run go on."""
        row = self._row(run)
        if row.state in {"finished", "running"}:
            raise StateError(f"run {run} is {row.state}", hint="nothing to resume")
        if row.sites is None:
            self._mark(run, "waiting", "", actor)
            self.begin(run)
        else:
            self.driver(run).take(RunResumed())

    # ---- sites --------------------------------------------------------------------------------------------------

    def here(self, site: str, known: tuple[str, ...] = ()) -> None:
        """A site has said Hello: push what is asked of it and what it is to serve; start runs that waited for it.

        `known` are runs it works on or remembers: it hears of those that have ended.
        """
        for serve in self._tools.registry.serves(site):
            self._tools.attendances.push(site, serve)
        self.back(site)
        for driver in self._active():
            driver.call_on(site)
        for run in known:
            if run not in self._drivers:
                self._tools.attendances.push(site, Forget(run=run) if self._is_over(run) else Cancel(run=run))
        waiting = self._tools.database.read(lambda connection: rows.run_rows(connection, ("waiting",)))
        for row in reversed(waiting):
            self.begin(row.id)

    def back(self, site: str) -> None:
        """A site gives signs of life again."""
        self._tell_runs(site)

    def submit(self, answer: Update | Refusal) -> Receipt:
        """Take a site's answer, exactly once."""
        driver = self._drivers.get(answer.run)
        if driver is None:
            return self._late(answer)
        worth = driver.receipt(answer)
        if worth != "accepted":
            return Receipt(status=worth, reason=_REASONS[worth])
        folds_any = driver.job.federation.robust is not None and isinstance(answer, Update) and answer.kind == "train"
        event, reason = self._judged(answer, finite=not folds_any)
        failpoint("control.update.before_journal")
        status = driver.take(event)
        failpoint("control.update.after_journal")
        return Receipt(status=status, reason=_REASONS.get(status, reason))

    def missing(self, site: str, offer: Offer) -> int:
        """Return from which byte on a blob is wanted; its size where it is not wanted at all."""
        if self.admit(site, offer) is None:
            return offer.blob.size_bytes
        return self._tools.spool.settle(offer.blob)

    def admit(self, site: str, offer: Offer) -> tuple[Driver, RoundTask] | None:
        """Let a site send a blob; return what waits for it. None: whatever it sends is not missing.

        Raises:
            SpecError: with this blob, the site would send more for its task than it may.
        """
        driver = self._drivers.get(offer.run)
        task = None if driver is None else driver.admit(site, offer.blob)
        return None if driver is None or task is None else (driver, task)

    def moved(self, working: tuple[Working, ...]) -> None:
        """A site says how far it is."""
        for run in {work.run for work in working}:
            self._tools.notices.changed(run)

    def remind(self, site: str, working: tuple[Working, ...]) -> None:
        """Push work again that a site should have and, by its own word, does not do."""
        for driver in self._active():
            if driver.task_for(site) is not None:
                driver.remind(site, frozenset(work.round for work in working if work.run == driver.run))

    def readable(self, site: str, digest: str) -> Readable:
        """Return a blob this site needs for its work or its serving; a StaleError for any other."""
        for driver in self._active():
            task = driver.task_for(site)
            blob = None if task is None else task.blobs().get(digest)
            if task is not None and blob is not None:
                return Readable(blob=blob, run=driver.run, kind=task.kind)
        for serve in self._tools.registry.serves(site):
            for blob in (serve.model.onnx, serve.model.weights):
                if blob is not None and blob.digest == digest:
                    return Readable(blob=blob, run=serve.model.run)
        raise StaleError(f"{site} has no work that needs {digest}", hint="drop the work it was for")

    def count(self, readable: Readable, site: str, down_bytes: int) -> None:
        """Note what a site has fetched."""
        driver = None if readable.run is None else self._drivers.get(readable.run)
        if driver is not None:
            driver.traffic.count(site, readable.kind, down_bytes=down_bytes)

    def driver(self, run: str) -> Driver:
        """Return the driver of a run that has begun."""
        driver = self._drivers.get(run)
        if driver is None:
            raise StateError(f"run {run} is not under way", hint="`archipel status` lists the runs")
        return driver

    def find(self, run: str) -> Driver | None:
        """Return the driver of a run, if it has one in this process."""
        return self._drivers.get(run)

    # ---- for those who watch ------------------------------------------------------------------------------------

    def replayed(self, run: str) -> Coordinator:
        """Return the coordinator of a run as its journal leaves it."""

        def question(connection: Connection) -> Coordinator:
            row = rows.run_row(connection, run)
            bundle = None if row is None else rows.bundle(connection, row.bundle)
            assert row is not None
            assert bundle is not None
            authority = self._tools.authority
            coordinator = Coordinator(run, rows.job_of(row), bundle, rows.sites_of(row), authority=authority)
            for _, event in journal.replay(connection, run):
                coordinator.handle(event)
            return coordinator

        return self._tools.database.read(question)

    def bytes_of(self, run: str) -> tuple[Moved, ...]:
        """Return what was moved in a run, as far as it is written."""
        return self._tools.database.read(lambda connection: rows.bytes_of(connection, run))

    def changes(self, run: str) -> int:
        """Return how often a run has changed in this process."""
        return self._tools.notices.count(run)

    def now(self) -> float:
        """Return the time, in seconds since the Unix epoch."""
        return self._clock()

    # ---- inside -------------------------------------------------------------------------------------------------

    def _start(self, run: str, sites: tuple[str, ...]) -> None:
        with self._lock:
            row = self._row(run)
            if run in self._drivers or row.state != "waiting":
                return
            driver = self._made(row, sites)
            said = self._tools.log.event("run.started", run=run, sites=len(sites))

            def change(connection: Connection) -> None:
                rows.start_run(connection, run, sites, self._clock())
                keep_within(connection, said)

            self._tools.database.write(change)
            failpoint("control.start.after_commit")
            self._drivers[run] = driver
        self._expect(driver)
        driver.carry_out_outstanding()
        self._tools.notices.changed(run)

    def _open(self, row: Row[Any]) -> Driver:
        driver = self._drivers[row.id] = self._made(row, rows.sites_of(row))
        return driver

    def _made(self, row: Row[Any], sites: tuple[str, ...]) -> Driver:
        bundle = self._tools.database.read(lambda connection: rows.bundle(connection, row.bundle))
        assert bundle is not None
        return Driver(self._desk, row.id, rows.job_of(row), bundle, sites)

    def _active(self) -> Iterator[Driver]:
        yield from list(self._drivers.values())

    def _row(self, run: str) -> Row[Any]:
        row = self._tools.database.read(lambda connection: rows.run_row(connection, run))
        if row is None:
            known = self._tools.database.read(lambda connection: [item.id for item in rows.run_rows(connection)])
            raise UnknownNameError.of("run", run, known)
        return row

    def _is_over(self, run: str) -> bool:
        """Has this run ended in a way that it cannot go on from?"""
        row = self._tools.database.read(lambda connection: rows.run_row(connection, run))
        return row is not None and row.state == "finished"

    def _mark(self, run: str, state: str, message: str, actor: str) -> None:
        said = self._tools.log.event(f"run.{state}", run=run, actor=actor)

        def change(connection: Connection) -> None:
            rows.mark_run(connection, run, state, message)
            keep_within(connection, said)

        self._tools.database.write(change)
        self._tools.notices.changed(run)

    def _judged(self, answer: Update | Refusal, *, finite: bool) -> tuple[UpdateAccepted | SiteRefused, str]:
        """Look at what an answer brings; an update that cannot be used counts as the site's refusal."""
        if isinstance(answer, Refusal):
            return SiteRefused(answer), ""
        try:
            verify(answer, self._tools.spool, finite=finite)
        except (TaskError, SpecError) as error:
            return SiteRefused(Refusal.of(answer, error)), f"refused: {error.message}"
        return UpdateAccepted(answer), ""

    def _late(self, answer: Update | Refusal) -> Receipt:
        counted = self._tools.database.read(
            lambda connection: journal.is_counted(connection, answer.run, answer.round, answer.site)
        )
        status: Answer = "duplicate" if counted else "stale"
        return Receipt(status=status, reason=_REASONS[status])

    def _tell_runs(self, site: str) -> None:
        """Tell runs whether a site is here; again, where that changes meanwhile. What fails is left to a tick."""
        self._untold.discard(site)
        lost: bool | None = None
        try:
            while lost != (now := self._tools.attendances.is_lost(site)):
                lost = now
                event = SiteLost(site) if lost else SiteBack(site)
                for driver in self._active():
                    if site not in driver.parties:
                        continue
                    if driver.job.federation.absent == "quorum" and driver.needs_word(event):
                        driver.take(event)
                    # Whoever watches sees it, and where the site is a process of theirs starts it again.
                    self._tools.notices.changed(driver.run)
            if lost:
                self._tools.log.write("site.lost", site=site, level="warning")
        except ArchipelError:
            self._untold.add(site)
            raise

    def _expect(self, driver: Driver) -> None:
        """Give the sites of a run that begins a lease to come; one that is lost is told to the run at the next tick."""
        if driver.job.federation.absent == "quorum":
            self._tools.attendances.expect(driver.parties, self._monotonic())
            self._untold.update(filter(self._tools.attendances.is_lost, driver.parties))

    def _work(self, run: str, instruction: Fold | Finish) -> None:
        driver = self._drivers.get(run)
        if driver is not None:
            self._workshop.submit(driver, instruction)

    def _delay(self, driver: Driver, error: ArchipelError) -> None:
        driver.trouble = error
        self._retry_at[driver.run] = self._monotonic() + RETRY_SECONDS
        self._tools.notices.changed(driver.run)

    def _done(self, driver: Driver) -> None:
        self._drivers.pop(driver.run, None)
        self._tools.notices.changed(driver.run)  # not before: what troubled it stands beside the state while it is here
        if not self._drivers:
            self._tools.holdings.sweep()

    def _try_again(self, run: str) -> None:
        driver = self._drivers.get(run)
        if driver is None:
            return
        driver.trouble = None
        self._tools.notices.changed(run)
        try:
            driver.carry_out_outstanding()
        except ArchipelError as error:
            self._delay(driver, error)

    def _hold_results(self, found: list[Row[Any]]) -> None:
        for model in self._tools.registry.list().models:
            blobs = [blob.digest for blob in (model.weights, model.onnx) if blob is not None]
            self._tools.holdings.hold(model_holder(model), blobs)
        for row in found:
            self._tools.holdings.hold(BUNDLES, [row.bundle])
            self._tools.holdings.hold(report_holder(row.id), self._report_blobs(row.id))

    def _report_blobs(self, run: str) -> list[str]:
        """Return the added sums of each round, and of the last evaluation each site's own."""

        def question(connection: Connection) -> list[str]:
            closed = rows.rounds_of(connection, run)
            evaluated = [row.round for row in closed if row.kind == "evaluate"][-1:]
            updates = [update for number in evaluated for update in journal.counted(connection, run, number)]
            added = [row.sums for row in closed if row.sums is not None]
            own = [update.parts["sums"].blob.digest for update in updates if "sums" in update.parts]
            return added + own

        return self._tools.database.read(question)


_REASONS = {"duplicate": "it was counted before", "stale": "its round is not open"}
