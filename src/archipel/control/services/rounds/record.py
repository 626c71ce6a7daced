"""What is written about an event of a run, all in one transaction: journal, closed round, run's state, event log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from archipel.control.services.audit import EventLog
from archipel.control.services.audit import keep_within as log_within
from archipel.control.store import journal
from archipel.control.store import runs as rows
from archipel.control.store import sites as site_rows
from archipel.federated.port import (
    GiveUp,
    Outlier,
    RoundFolded,
    RunEvent,
    RunResumed,
    RunStopped,
    SiteRefused,
    UpdateAccepted,
    UpdateRejected,
)
from archipel.spec import Event, Leg, Refusal, Update


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """An event the coordinator has taken, and what it did."""

    event: RunEvent
    number: int
    """Round that was open before it."""
    kind: str
    """And its kind."""
    training_round: int
    """Which of the training rounds it is, from 1, as people count them; 0 for another kind."""
    leg: Leg | None = None
    """Of a secure sum."""
    counted: bool
    """An update that counts (one the coordinator found unusable does not)."""
    closed: bool
    """It closed the round."""
    opened_at: float
    unusable: tuple[Refusal, ...] = ()
    """Updates that the coordinator refused."""
    folded: tuple[Update, ...] = ()
    """The updates of the round it closed."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is written at once."""

    run: str
    first: int
    """Place in the run's journal of the first step."""
    steps: Sequence[Step]
    given_up: GiveUp | None
    now: float


def keep_within(connection: Connection, log: EventLog, entry: Entry) -> None:
    """Write the steps into the run's journal, with all that follows from them."""
    run, now, given_up = entry.run, entry.now, entry.given_up
    entries = [(step.event, step.counted) for step in entry.steps]
    for step in entry.steps:
        if isinstance(step.event, UpdateRejected):
            refusal = step.event.refusal
            journal.uncount(connection, run, refusal.round, refusal.site)
    journal.append(connection, run, entry.first, entries, now)
    for step in entry.steps:
        log_within(connection, *_said(log, run, step))
        _keep_state(connection, run, step)
        if step.closed:
            _keep_round(connection, run, step, now)
        if isinstance(step.event, UpdateAccepted) and step.event.update.dataset is not None:
            site_rows.note_manifest(connection, step.event.update.site, step.event.update.dataset, now)
    if given_up is not None:
        rows.mark_run(connection, run, "failed", given_up.message, given_up.hint)
        log_within(connection, log.event("run.failed", run=run, level="error", reason=given_up.message))


def _keep_state(connection: Connection, run: str, step: Step) -> None:
    match step.event:
        case RunStopped():
            rows.mark_run(connection, run, "stopped", "stopped by an operator", f"go on with `archipel resume {run}`")
        case RunResumed():
            rows.mark_run(connection, run, "running")
        case _:
            return


def _keep_round(connection: Connection, run: str, step: Step, now: float) -> None:
    folded = step.event if isinstance(step.event, RoundFolded) else None
    rows.add_round(
        connection,
        run=run,
        round=step.number,
        kind=step.kind,
        participation=tuple(sorted(update.site for update in step.folded)),
        model=None if folded is None or folded.model is None else folded.model.digest,
        state=None if folded is None or folded.state is None else folded.state.digest,
        sums=None if folded is None or folded.sums is None else folded.sums.digest,
        opened_at=step.opened_at,
        closed_at=now,
        site_seconds=max((update.seconds for update in step.folded), default=0.0),
    )


def _said(log: EventLog, run: str, step: Step) -> list[Event]:
    said: list[Event] = []
    match step.event:
        case SiteRefused(refusal=refusal) | UpdateRejected(refusal=refusal):
            said.append(_refused(log, run, step, refusal))
        case RoundFolded(outliers=outliers):
            said.extend(_outlying(log, run, step, outlier) for outlier in outliers)
        case RunStopped():
            said.append(log.event("run.stopped", run=run))
        case RunResumed():
            said.append(log.event("run.resumed", run=run))
        case _:
            pass
    said.extend(_refused(log, run, step, refusal) for refusal in step.unusable)
    if step.closed and step.leg in {None, "release"}:
        said.append(log.event("round.closed", run=run, **_which(step)))
    return said


def _refused(log: EventLog, run: str, step: Step, refusal: Refusal) -> Event:
    reason = f"{refusal.error}: {refusal.message}"
    return log.event("update.refused", run=run, site=refusal.site, level="warning", reason=reason, **_which(step))


def _outlying(log: EventLog, run: str, step: Step, outlier: Outlier) -> Event:
    return log.event(
        "update.outlying",
        run=run,
        site=outlier.site,
        level="warning",
        part=outlier.part,
        norm=outlier.norm,
        median=outlier.median,
        handled=outlier.handled,
        **_which(step),
    )


def _which(step: Step) -> dict[str, Any]:
    """Name the round as every screen does: a training round by its number from 1, another by its kind alone."""
    return {"kind": step.kind} | ({"round": step.training_round} if step.training_round else {})
