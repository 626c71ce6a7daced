"""What a run of the same work took before, for plans of the next."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, Row

from archipel.control.store import journal, runs
from archipel.federated.port import RoundFolded
from archipel.planner.pace import Seen
from archipel.planner.traffic import Sizes
from archipel.spec import JobSpec

MOST_ROUNDS = 20
"""So many of the newest training rounds count for a site's pace."""


def seen_before(connection: Connection, job: JobSpec, *, before: float | None = None) -> Seen | None:
    """Return what the newest finished run of the same work took; None: there was none.

    The same work is the same task, data, local training and noise; rounds, sites and seeds may differ. `before`: only a
    run that was submitted earlier counts.
    """
    for row in runs.run_rows(connection, ("finished",)):
        earlier = before is None or row.submitted_at < before
        if earlier and _work_of(runs.job_of(row)) == _work_of(job):
            return _seen(connection, row, job)
    return None


def sizes_of(connection: Connection, run: str) -> Sizes:
    """Return what a run's first weights tell of its model."""
    for _, event in journal.replay(connection, run):
        if isinstance(event, RoundFolded) and event.model is not None:
            return Sizes(model_bytes=event.model.size_bytes, manifest=event.manifest)
    return Sizes(model_bytes=0)


def round_seconds(connection: Connection, run: str) -> dict[str, list[float]]:
    """Return site → wall seconds of its work in the newest training rounds of a run, oldest first."""
    closed = [row.round for row in runs.rounds_of(connection, run) if row.kind == "train"]
    found: dict[str, list[float]] = defaultdict(list)
    for number in closed[-MOST_ROUNDS:]:
        for update in journal.counted(connection, run, number):
            if update.seconds > 0:  # of a secure sum, only the leg in which the work is done takes time
                found[update.site].append(update.seconds)
    return dict(found)


def _seen(connection: Connection, row: Row[Any], job: JobSpec) -> Seen:
    then = runs.job_of(row)
    trained = [closed for closed in runs.rounds_of(connection, row.id) if closed.kind == "train"]
    training = sum(closed.closed_at - closed.opened_at for closed in trained)
    working = sum(closed.site_seconds for closed in trained)
    is_alike = (then.evaluation, then.deployment) == (job.evaluation, job.deployment)
    return Seen(
        round_seconds=round_seconds(connection, row.id),
        overhead_seconds=max(0.0, training - working) / then.federation.rounds,
        other_seconds=max(0.0, row.ended_at - row.started_at - training) if is_alike else None,
    )


def _work_of(job: JobSpec) -> tuple[object, ...]:
    return (job.task, job.data, job.federation.local, job.federation.algorithm, job.privacy)
