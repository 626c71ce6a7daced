"""The board of runs: a job is checked, then pinned up as a run; from then on rounds drive it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row

from archipel.control.services.audit import EventLog, keep_within
from archipel.control.services.jobs.bundles import Bundles
from archipel.control.services.sites.fleet import Fleet
from archipel.control.store import models as model_rows
from archipel.control.store import runs as rows
from archipel.control.store.database import Database
from archipel.federated.algorithms import algorithm_of
from archipel.federated.clashes import require_compressed, require_secure
from archipel.federated.robust.cohorts import require_sites
from archipel.federated.robust.robust import robust_of
from archipel.spec import JobSpec, SpecError, StateError, UnknownNameError, failpoint
from archipel.spec.views import RunsPage, RunView


class Board:
    """Takes jobs in and shows their runs."""

    def __init__(
        self, database: Database, log: EventLog, bundles: Bundles, fleet: Fleet, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._log = log
        self._bundles = bundles
        self._fleet = fleet
        self._clock = clock

    def submit(self, job: JobSpec, bundle: str, run: str, actor: str) -> None:
        """Check a job and keep it as a new run of this name, in state "waiting"; the same again changes nothing.

        Raises:
            SpecError, UnknownNameError: the job cannot be run as it is.
            StateError: its bundle was not uploaded, or another run has this name.
        """
        self.check(job, bundle)
        there = self._database.read(lambda connection: rows.run_row(connection, run))
        if there is not None and (there.job, there.bundle) == (job.digest, bundle):
            return
        if there is not None:
            raise StateError(f"there is a run {run} of another job", hint="name the new run otherwise, or leave it out")
        said = self._log.event("run.submitted", actor=actor, run=run, job=job.name, bundle=bundle)

        def change(connection: Connection) -> None:
            rows.add_run(connection, run, job, bundle, self._clock())
            keep_within(connection, said)

        self._database.write(change)
        failpoint("control.submit.after_commit")

    def check(self, job: JobSpec, bundle: str) -> None:
        """Find every fault that can be found before a site is asked."""
        algorithm_of(job.federation)
        robust_of(job.federation)
        require_secure(job)
        joined = {site.name for site in self._fleet.list().sites}
        require_compressed(job, joined)
        names = job.federation.sites
        if len(set(names)) != len(names):
            raise SpecError("[federation] sites names a site twice", hint="name each site once")
        if names:
            require_sites(job.federation, len(names))
        for name in (*names, *job.helpers):
            if name not in joined:
                raise UnknownNameError.of("site", name, joined)
        members = self._bundles.members(self._bundles.require(bundle))
        code = job.task.code.partition(":")[0]
        if code not in members:
            raise UnknownNameError.of("file in the bundle:", code, members)

    def list(self) -> RunsPage:
        """Return all runs, newest first."""
        return RunsPage(runs=self._database.read(_all_views))

    def show(self, run: str) -> RunView:
        """Return one run; an UnknownNameError if there is none."""
        view = self._database.read(lambda connection: _one_view(connection, run))
        if view is None:
            raise UnknownNameError.of("run", run, [item.id for item in self.list().runs])
        return view


def _all_views(connection: Connection) -> tuple[RunView, ...]:
    versions = model_rows.versions_of_runs(connection)
    return tuple(_view(row, versions.get(row.id)) for row in rows.run_rows(connection))


def _one_view(connection: Connection, run: str) -> RunView | None:
    row = rows.run_row(connection, run)
    model = model_rows.model_of_run(connection, run)
    return None if row is None else _view(row, None if model is None else model.version)


def _view(row: Row[Any], version: int | None) -> RunView:
    return RunView(
        id=row.id,
        job=row.name,
        job_digest=row.job,
        bundle=row.bundle,
        state=row.state,
        sites=rows.sites_of(row),
        submitted_at=row.submitted_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        message=row.message,
        hint=row.hint,
        model_version=version,
    )
