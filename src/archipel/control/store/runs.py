"""Rows about bundles, jobs, runs and closed rounds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from archipel.control.store.tables import bundles, jobs, rounds, runs, transfers
from archipel.spec import Blob, JobSpec, decode, encode
from archipel.spec.views import Moved

UNFINISHED = ("waiting", "running", "paused", "stopped", "failed")


def add_bundle(connection: Connection, blob: Blob, now: float) -> None:
    """Remember a bundle; repeating it is harmless."""
    if bundle(connection, blob.digest) is None:
        values = {"digest": blob.digest, "size_bytes": blob.size_bytes, "stored_at": now}
        connection.execute(insert(bundles).values(**values))


def bundle(connection: Connection, digest: str) -> Blob | None:
    """Return a stored bundle."""
    row = connection.execute(select(bundles).where(bundles.c.digest == digest)).first()
    return None if row is None else Blob(digest=row.digest, size_bytes=row.size_bytes)


def add_run(connection: Connection, run: str, job: JobSpec, bundle_digest: str, now: float) -> None:
    """Remember a run and its job."""
    digest = job.digest
    if connection.execute(select(jobs.c.digest).where(jobs.c.digest == digest)).first() is None:
        values = {"digest": digest, "name": job.name, "spec": encode(job).decode(), "submitted_at": now}
        connection.execute(insert(jobs).values(**values))
    connection.execute(
        insert(runs).values(
            id=run, job=digest, bundle=bundle_digest, state="waiting", submitted_at=now, message="", hint=""
        )
    )


def run_row(connection: Connection, run: str) -> Row[Any] | None:
    """Return a run with its job's name and spec."""
    return connection.execute(_with_job().where(runs.c.id == run)).first()


def run_rows(connection: Connection, states: tuple[str, ...] | None = None) -> list[Row[Any]]:
    """Return runs, newest first."""
    question = _with_job().order_by(runs.c.submitted_at.desc(), runs.c.id.desc())
    if states is not None:
        question = question.where(runs.c.state.in_(states))
    return list(connection.execute(question))


def job_of(row: Row[Any]) -> JobSpec:
    """Return the job of a run's row."""
    return decode(row.spec.encode(), JobSpec)


def sites_of(row: Row[Any]) -> tuple[str, ...]:
    """Return the population of a run's row; empty before it starts."""
    return () if row.sites is None else decode(row.sites.encode(), tuple[str, ...])


def start_run(connection: Connection, run: str, sites: tuple[str, ...], now: float) -> None:
    """Fix the population."""
    values = {"state": "running", "sites": encode(sites).decode(), "started_at": now, "message": "", "hint": ""}
    connection.execute(update(runs).where(runs.c.id == run).values(**values))


def mark_run(connection: Connection, run: str, state: str, message: str = "", hint: str = "") -> None:
    """Note the state a run is in and why."""
    connection.execute(update(runs).where(runs.c.id == run).values(state=state, message=message, hint=hint))


def keep_waiting(connection: Connection, run: str, message: str, hint: str) -> None:
    """Note what a run waits for, unless it has begun or was stopped meanwhile."""
    waits = (runs.c.id == run) & (runs.c.state == "waiting") & runs.c.sites.is_(None)
    connection.execute(update(runs).where(waits).values(message=message, hint=hint))


def end_run(connection: Connection, run: str, now: float) -> None:
    """Note that a run is finished; of its end, the first time counts."""
    ended_at = func.coalesce(runs.c.ended_at, now)
    values = {"state": "finished", "message": "", "hint": "", "ended_at": ended_at}
    connection.execute(update(runs).where(runs.c.id == run).values(**values))


def tidy_run(connection: Connection, run: str, now: float) -> None:
    """Note that what only the run itself needed is dropped."""
    connection.execute(update(runs).where(runs.c.id == run).values(tidied_at=now))


def add_round(connection: Connection, **values: Any) -> None:
    """Remember a closed round; repeating it is harmless."""
    same = (rounds.c.run == values["run"]) & (rounds.c.round == values["round"])
    if connection.execute(select(rounds.c.round).where(same)).first() is None:
        values["participation"] = encode(values["participation"]).decode()
        connection.execute(insert(rounds).values(**values))


def rounds_of(connection: Connection, run: str) -> list[Row[Any]]:
    """Return the closed rounds of a run, in order."""
    return list(connection.execute(select(rounds).where(rounds.c.run == run).order_by(rounds.c.round)))


def add_bytes(connection: Connection, run: str, moved: Moved) -> None:
    """Add to what was moved between a site and control in a phase of a run."""
    up, down = transfers.c.up_bytes + moved.up_bytes, transfers.c.down_bytes + moved.down_bytes
    here = (transfers.c.run == run) & (transfers.c.site == moved.site) & (transfers.c.kind == moved.phase)
    if connection.execute(update(transfers).where(here).values(up_bytes=up, down_bytes=down)).rowcount == 0:
        values = {"up_bytes": moved.up_bytes, "down_bytes": moved.down_bytes}
        connection.execute(insert(transfers).values(run=run, site=moved.site, kind=moved.phase, **values))


def bytes_of(connection: Connection, run: str) -> tuple[Moved, ...]:
    """Return what was moved in a run, by site and phase."""
    question = select(transfers).where(transfers.c.run == run).order_by(transfers.c.site, transfers.c.kind)
    return tuple(
        Moved(site=row.site, phase=row.kind, up_bytes=row.up_bytes, down_bytes=row.down_bytes)
        for row in connection.execute(question)
    )


def _with_job() -> Any:
    return select(runs, jobs.c.name, jobs.c.spec).join(jobs, runs.c.job == jobs.c.digest)
