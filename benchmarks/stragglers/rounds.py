"""Rounds without training: what a timeline alone says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from archipel.simulation.clock.devices import Load
from archipel.simulation.clock.opening import open_devices, open_timeline
from archipel.simulation.clock.port import Moment
from archipel.simulation.clock.report import RoundTime, TimeReport
from archipel.spec.job import job_from
from stragglers.fleets import POLICIES, Policy, timed

CLIENTS, COHORT, ROWS, MODEL_BYTES = 10_000, 100, 400, 20_000_000
LOAD = Load(epochs=1, down_bytes=MODEL_BYTES, up_bytes=MODEL_BYTES)
COMPRESSED = Load(epochs=1, down_bytes=MODEL_BYTES, up_bytes=MODEL_BYTES // 4)


class Alike:
    """Clients of as many rows each."""

    count = CLIENTS

    def name(self, client: int) -> str:
        """Return its number."""
        return f"{client:05}"

    def rows(self, client: int) -> Any:  # noqa: ARG002 (the port's signature)
        """Return the rows, the same for all."""
        return np.arange(ROWS)


def measure(trace: Path, rounds: int) -> list[dict[str, object]]:
    """Let the rounds of every policy pass."""
    print(f"\n{rounds} rounds of {COHORT} of {CLIENTS} phones, {ROWS} rows each, {MODEL_BYTES / 1e6:.0f} MB each way")
    print(f"{'policy':34}{'round, s':>10}{'of all':>8}{'rows/s':>9}{'wasted':>9}{'slowest tenth':>15}{'age':>6}")
    first = _report(POLICIES[0], trace, rounds, LOAD)
    cases = [(policy, LOAD, "") for policy in POLICIES]
    cases.append((POLICIES[-1], COMPRESSED, ", updates in int8"))
    return [_row(policy.name + more, _report(policy, trace, rounds, load), first) for policy, load, more in cases]


def _report(policy: Policy, trace: Path, rounds: int, load: Load) -> tuple[TimeReport, int]:
    job = job_from(
        {
            "name": "phones",
            "task": {"code": "task.py:Phones"},
            "data": {"dataset": "phones"},
            "federation": {"rounds": rounds},
            "simulation": {"cohort": COHORT, "clients": CLIENTS, "time": timed(policy, trace, COHORT)},
        }
    )
    population = Alike()
    devices = open_devices(job, population, trace.parent)
    timeline = open_timeline(job, population, devices, load, Moment())
    records, rows = [], 0
    for step in range(1, rounds + 1):
        closed = timeline.close(step)
        # Nothing is trained here: to a selection that listens all clients are as useful.
        timeline.hear(step, {one.client: 1.0 for one in closed.folded})
        records.append(RoundTime.of(closed))
        rows += sum(one.rows for one in closed.folded)
    return TimeReport.of(records), rows


def _row(name: str, found: tuple[TimeReport, int], first: tuple[TimeReport, int]) -> dict[str, object]:
    total, rows = found
    length, share = total.seconds / total.rounds, total.seconds / first[0].seconds
    print(
        f"{name:34}{length:10.0f}{share:8.2f}{rows / total.seconds:9.0f}{total.wasted_share:9.1%}"
        f"{total.slow_share or 0:15.3f}{total.staleness_mean or 0:6.2f}"
    )
    return {
        "name": f"stragglers: {name}",
        "round_seconds": length,
        "of_waiting_for_all": share,
        "rows_a_second": rows / total.seconds,
        "wasted_share": total.wasted_share,
        "slowest_tenth_share": total.slow_share,
        "staleness_mean": total.staleness_mean,
    }
