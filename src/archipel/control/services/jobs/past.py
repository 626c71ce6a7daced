"""What rounds of the same work took before, for plans of the next run of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import Connection

from archipel.control.store import journal, runs
from archipel.spec import JobSpec

MOST_ROUNDS = 20
"""So many of the newest training rounds count."""


def past_rounds(connection: Connection, job: JobSpec, *, before: float | None = None) -> Mapping[str, list[float]]:
    """Return site → wall seconds of its work in training rounds of the newest run of the same work, oldest first.

    The same work is the same task, data, local training and noise; rounds, sites and seeds may differ. `before`: only a
    run that was submitted earlier counts.
    """
    for row in runs.run_rows(connection):
        earlier = before is None or row.submitted_at < before
        if earlier and _work_of(runs.job_of(row)) == _work_of(job) and (found := round_seconds(connection, row.id)):
            return found
    return {}


def round_seconds(connection: Connection, run: str) -> dict[str, list[float]]:
    """Return site → wall seconds of its work in the newest training rounds of a run, oldest first."""
    closed = [row.round for row in runs.rounds_of(connection, run) if row.kind == "train"]
    found: dict[str, list[float]] = defaultdict(list)
    for number in closed[-MOST_ROUNDS:]:
        for update in journal.counted(connection, run, number):
            if update.seconds > 0:  # of a secure sum, only the leg in which the work is done takes time
                found[update.site].append(update.seconds)
    return dict(found)


def _work_of(job: JobSpec) -> tuple[object, ...]:
    return (job.task, job.data, job.federation.local, job.federation.algorithm, job.privacy)
