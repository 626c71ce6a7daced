"""A run over local sites: what `archipel run JOB` does where the job names no control plane.

    1. prepare    the job's own function writes one folder per site (in its own process)
    2. start      control plane and sites, each a process; sites join by token
    3. plan       shown before anything is spent
    4. run        submitted and watched; processes that die are started again
    5. reference  the pooled model, by the job's own function, beside the run (in its own process)
    6. report     asked, laid side by side, written as JSON and HTML, shown

Every step may be interrupted and is found done, or done again, by the next command: the fleet's folder remembers.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from archipel.cli import entries, processes
from archipel.cli.client import Client
from archipel.cli.failure import Interrupted
from archipel.cli.fleet import Fleet, FleetState, free_ports
from archipel.cli.interrupts import check, held
from archipel.cli.naming import program
from archipel.cli.planes import HOME, remember
from archipel.cli.planning import is_counted, show_plan
from archipel.cli.preparing import Rows
from archipel.cli.watching import ENDED, watch
from archipel.data.bundle import pack_bundle
from archipel.spec import (
    ArchipelError,
    JobSpec,
    StateError,
    UnknownNameError,
    decode,
    digest_value,
    encode,
    read_job,
)
from archipel.spec.views import RunProgress, RunView

_MOST_RESTARTS = 3


Pooled = dict[str, Any] | None
"""What the job's reference returned; None: it has none."""


class LocalRun:
    """One job over local sites, from nothing to its report."""

    def __init__(
        self,
        job_file: Path,
        presets: tuple[str, ...],
        data: Path | None,
        console: Console,
        finish: Finish | None = None,
        *,
        fleet: Fleet | None = None,
    ) -> None:
        """Name the run; `fleet` is the one to go on with, else that of the job's name, here."""
        self.job: JobSpec = read_job(job_file, presets)
        self.folder = job_file.resolve().parent
        self.fleet = Fleet(HOME.resolve() / self.job.name) if fleet is None else fleet
        self._job_file = job_file.resolve()
        self._presets = presets
        self._data = None if data is None else data.resolve()
        self.rows = Rows(self.job, self.folder, self._data, self.fleet)
        self._console = console
        self._finish = finish or _leave
        self._restarts: dict[str, int] = {}
        self._only_unfinished = False
        self._plan_is_vague = False
        self._refused: set[str] = set()
        self._stops = 0
        self.spent: dict[str, float] = {}
        self._spent_before: dict[str, float] = {}

    # ---- the steps -------------------------------------------------------------------------------------------

    def go(self, *, detach: bool = False, only_unfinished: bool = False) -> None:
        """Do all steps that are not done yet; `only_unfinished`: start no new run."""
        self._only_unfinished = only_unfinished
        with self.fleet.lock() as mine:
            if not mine:
                self._attach()
                return
            try:
                self._go(detach=detach)
            except KeyboardInterrupt:
                self._halt()
                raise Interrupted(
                    "the run is paused and its processes are stopped; nothing is lost.\n"
                    f"next:  the same command, or `{program()} resume`, goes on; all is in {HOME / self.job.name}"
                ) from None
            finally:
                with held():
                    processes.stop(self.fleet.folder, ["prepare", "reference"])

    def _halt(self) -> None:
        """End the fleet's processes; a second Ctrl-C does not end the ending, it makes it quick."""
        with held() as is_urgent:
            self._say("ending the run's processes …  (Ctrl-C again: at once)")
            self.fleet.stop(is_urgent)

    def _go(self, *, detach: bool) -> None:
        self._open()
        state = self.fleet.state
        is_over = state is not None and state.run is not None and state.run == state.reported
        if is_over and self._only_unfinished:
            self._serve_again()
            return
        datasets = self.prepare(self._leave_run_of_other_rows)
        self._leave_run_of_other_rows()
        self._remember_words()
        with self.phase("start"):
            client = self.fleet.ensure_control()
            self._say(f"control plane at {client.operator.url}; {len(datasets)} sites join by token …")
            self._ensure_sites(client, datasets)
        with client:
            run = self._submit(client)
            if detach:
                self._say(f"run {run.id} goes on in the background: `archipel status`, `archipel logs --follow`")
                self._say("the same command, or `archipel resume`, watches it and makes the report")
                return
            reference = self._begin_reference()
            ended = self._watch(client, run)
            if ended.run.state != "finished":
                raise failure_of(ended.run, self.fleet.logs)
            with self.phase("reference"):
                pooled = self._end_reference(reference)
            self._finish(self, client, ended, pooled)
            check()
            self.fleet.change(reported=run.id)

    def _ensure_sites(self, client: Client, datasets: dict[str, Path]) -> None:
        """Start the sites that have rows, and whoever helps with their sums."""
        self.fleet.ensure_sites(client, {**dict.fromkeys(self.job.helpers), **datasets}, self.job.data.dataset)

    def _serve_again(self) -> None:
        """Start what serves the last run's model: control and the sites."""
        datasets = self.rows.folders()
        with self.fleet.ensure_control() as client:
            self._ensure_sites(client, datasets)
        self._say(f"no run is unfinished; {len(datasets)} sites serve again: `{program()} status` shows what")

    def _open(self) -> None:
        state = self.fleet.state
        if state is None:
            http_port, sites_port = free_ports(2)
            state = FleetState(job_file=str(self._job_file), http_port=http_port, sites_port=sites_port)
            self.fleet.save(state)
            self._remember_words()  # already now: `resume` goes on from preparing too
        self.spent = dict(state.spent)
        self._spent_before = dict(state.spent)
        self._stops = state.stops
        remember(self.fleet.control)

    def _remember_words(self) -> None:
        """Keep the command's words for `resume`; of a fleet that has some, only once their rows are there."""
        data = None if self._data is None else str(self._data)
        self.fleet.change(job_file=str(self._job_file), presets=self._presets, data=data)

    def prepare(self, leave: Callable[[], None] | None = None, *, mine: bool = True) -> dict[str, Path]:
        """Return site → folder of its rows, prepared by the job's function unless that has been done.

        `leave` lets go of what uses the rows before others replace them; without it, nothing may. A command that does
        not hold the fleet (`mine`) takes the rows as they are: sites may be reading them.
        """
        if not mine:
            self.rows.require_ready()
        elif not self.rows.ready:
            with self.phase("prepare"):
                self._say(f"preparing one folder per site: {self.job.data.prepare}")
                fresh = self.rows.prepare(self._say)
            if leave is not None:
                leave()
            elif self._has_run_of_other_rows():
                raise StateError(
                    f"an unfinished run of {self.job.name!r} is over other rows",
                    hint=f"`{program()} resume` goes on with it; or work in another folder",
                )
            self.rows.put_in_place(fresh)
        return self.rows.folders()

    def _has_run_of_other_rows(self) -> bool:
        state = self.fleet.state
        unfinished = state is not None and state.run != state.reported
        return unfinished and state is not None and state.rows not in {None, self.rows.stamp}

    def _leave_run_of_other_rows(self) -> None:
        """Stop an unfinished run over other rows: before they are replaced, and before a site goes on with it."""
        state = self.fleet.state
        if state is None or state.run is None or not self._has_run_of_other_rows():
            return
        self._refuse_new(f"the rows have changed since run {state.run}")
        with self.phase("start"), self.fleet.ensure_control() as client:
            earlier = _found(client, state.run)
            if earlier is not None:
                self._leave_behind(client, earlier)
        self.spent = {}
        self.fleet.change(run=None, rows=None, spent={})

    def _submit(self, client: Client) -> RunView:
        bundle = client.upload_bundle(pack_bundle(self.folder, self.job.task.include))
        state = self.fleet.state
        earlier = None if state is None or state.run is None else _found(client, state.run)
        if earlier is not None and state is not None and state.reported != earlier.id:
            if (earlier.job_digest, earlier.bundle) == (self.job.digest, bundle.digest):
                self._say(f"going on with run {earlier.id}")
                return client.resume(earlier.id) if earlier.state in {"stopped", "failed"} else earlier
            self._leave_behind(client, earlier)
        with self.phase("plan"):
            self._show_plan(client)
        if earlier is not None:  # what was spent on it is not this run's
            before = self._spent_before
            self.spent = {name: seconds - before.get(name, 0.0) for name, seconds in self.spent.items()}
        named = self.job.name_run(secrets.token_bytes(4))
        self.fleet.change(
            run=named, spent=self.spent, rows=self.rows.stamp
        )  # before it is asked for: a run that nobody remembers would go on
        return client.start(self.job, bundle.digest, named)

    def _leave_behind(self, client: Client, earlier: RunView) -> None:
        self._refuse_new(f"the job has changed since run {earlier.id}")
        if earlier.state == "finished":
            return
        if earlier.state not in ENDED:
            client.stop(earlier.id)
        self._say(f"run {earlier.id} of an earlier version of the job is stopped; this is a new run")

    def _refuse_new(self, reason: str) -> None:
        if self._only_unfinished:
            raise StateError(reason, hint=f"`archipel run {self._job_file}` starts a new one")

    def _watch(self, client: Client, run: RunView) -> RunProgress:
        with self.phase("run"):
            return watch(client, run.id, self._console, lambda progress: self._on_news(client, progress))

    def _on_news(self, client: Client, progress: RunProgress | None) -> None:
        self.supervise()
        if progress is None:
            return
        if self._plan_is_vague and progress.step:
            self._show_plan(client)
        refused = {site.site for site in progress.sites if site.status == "refused"} - self._refused
        if refused:
            self._refused |= refused
            reasons = client.refusals(progress.run.id)
            for site in sorted(refused):
                self._say(f"{site} takes no part: {reasons.get(site, 'no reason was given')}")

    def _show_plan(self, client: Client) -> None:
        plan = client.plan(self.job)
        show_plan(plan, self.job.name, self._console)
        self._plan_is_vague = False if self._plan_is_vague else not is_counted(plan)

    def _attach(self) -> None:
        state = self.fleet.state
        if state is None or state.run is None or state.run == state.reported:
            raise StateError(
                f"another command is starting {self.job.name!r}", hint="wait for it, or see `archipel status`"
            )
        from archipel.cli.planes import operator_of

        with Client(operator_of(self.fleet.control)) as client:
            if (client.run(state.run).job_digest, state.rows) != (self.job.digest, self.rows.stamp):
                raise StateError(
                    f"another command leads run {state.run} of {self.job.name!r}, with other settings or rows",
                    hint="wait for it, or work in another folder",
                )
            self._say(f"another command leads this run; watching run {state.run}")
            ended = watch(client, state.run, self._console)
        if ended.run.state != "finished":
            raise failure_of(ended.run, self.fleet.logs)
        self._say(f"finished; the report is in {HOME / self.job.name / 'report.html'}")

    def supervise(self) -> None:
        """Start processes of the fleet that have died again, a few times each; what waits calls it at each tick."""
        check()
        missing = self.fleet.missing()
        state = self.fleet.state
        if missing and state is not None and state.stops != self._stops:
            raise StateError(
                "the fleet was told to stop by another command",
                hint=f"nothing is lost: the same command, or `{program()} resume`, goes on",
            )
        for role in missing:
            if role != "control" and not role.startswith("site/"):
                continue
            self._restarts[role] = self._restarts.get(role, 0) + 1
            if self._restarts[role] > _MOST_RESTARTS:
                raise self.fleet.death_of(role)
            self._say(f"{role} died; starting it again")
            self.fleet.revive(role)

    # ---- the pooled reference --------------------------------------------------------------------------------

    def _begin_reference(self) -> entries.Entry | None:
        if self.job.evaluation.reference is None or self._kept_reference() is not None:
            return None
        order = entries.Order(
            folder=str(self.folder),
            entry=self.job.evaluation.reference,
            job=self.job,
            paths=(None if self._data is None else str(self._data),),
            result=str(self.fleet.folder / "reference.answer"),
        )
        return entries.begin(self.fleet.folder, "reference", order, self.fleet.logs / "reference.log", niceness=10)

    def _end_reference(self, entry: entries.Entry | None) -> dict[str, Any] | None:
        if entry is not None:
            self._say("waiting for the pooled reference, which a separate process computes from the public data …")
            found = entry.result()
            (self.fleet.folder / "reference.json").write_bytes(encode({"stamp": self._stamp(), "figures": found}))
        return self._kept_reference()

    def _kept_reference(self) -> dict[str, Any] | None:
        path = self.fleet.folder / "reference.json"
        if not path.is_file():
            return None
        kept: dict[str, Any] = decode(path.read_bytes(), dict)
        return kept["figures"] if kept.get("stamp") == self._stamp() else None

    def _stamp(self) -> str:
        return digest_value([self.job.digest, self.rows.stamp])

    # ---- the clock and the screen ----------------------------------------------------------------------------

    @property
    def console(self) -> Console:
        """Where the run speaks to people."""
        return self._console

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the wall time of the block towards a phase, over all commands of this run."""
        check()
        began = time.monotonic()
        try:
            yield
            check()
        finally:
            self.spent[name] = self.spent.get(name, 0.0) + time.monotonic() - began
            if self.fleet.state is not None:
                self.fleet.change(spent=self.spent)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


_SITES_LOG = "the site's log"
"""How hints of sites name it."""

Finish = Callable[[LocalRun, Client, RunProgress, Pooled], None]
"""Makes the report: the last step."""


def _leave(_run: LocalRun, _client: Client, _ended: RunProgress, _pooled: Pooled) -> None:
    """Make no report."""


def _found(client: Client, run: str) -> RunView | None:
    """Return a run that was named; None: the command was broken off before control heard of it."""
    try:
        return client.run(run)
    except UnknownNameError:
        return None


def failure_of(run: RunView, logs: Path | None = None) -> ArchipelError:
    """Return the error of a run that did not finish; `logs` is where local sites write theirs."""
    hint = run.hint or f"`archipel logs` shows more; `archipel resume {run.id}` goes on once the reason is gone"
    # Its place is said here: a site tells control nothing of its folders.
    hint = hint.replace(_SITES_LOG, f"{_SITES_LOG} ({_place_of_log(run, logs)})")
    return ArchipelError(f"run {run.id} {run.state}: {run.message or 'no reason was given'}", hint=hint)


def _place_of_log(run: RunView, logs: Path | None) -> str:
    if logs is None:
        return "there: in logs/ of the site's folder, or what `archipel join` prints"
    refused = (site for site in run.sites if f" {site} refused" in run.message)
    return str(logs / f"{next(refused, 'SITE')}.log")
