"""A cluster in rounds: at the start of each a policy says who runs where; nothing starts or moves between.

    outcome = run_trace(trace, FLEET, policy)
    outcome.durations.mean(), outcome.makespan

As in Gavel's simulator a job arrives with the first round after its arrival, runs at its rate of the table, frees its
devices at the end of the round in which it ends, and a round ends early where all of its jobs do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archipel.planner.sharing import Contender
from planner.traces import Trace

Policy = Callable[[Sequence[Contender], float], Mapping[str, str]]
"""Jobs that are there and the time, in s → job → kind of device."""


@dataclass(frozen=True)
class Outcome:
    """What became of a trace."""

    durations: npt.NDArray[np.float64]
    """Seconds from each job's arrival to its end."""
    makespan: float
    """Seconds to the end of the last."""
    decisions: int
    decision_seconds: float
    """CPU time of all decisions."""


def run_trace(
    trace: Trace, fleet: Mapping[str, int], policy: Policy, *, interval: float = 360.0, restart: float = 0.0
) -> Outcome:
    """Run a trace to its end; a job that starts or moves does nothing for `restart` seconds."""
    left = [job.steps for job in trace]
    ends = [np.inf] * len(trace)
    running: Mapping[str, str] = {}
    now, decisions, deciding = 0.0, 0, 0.0
    while any(steps > 0 for steps in left):
        here = [at for at, job in enumerate(trace) if left[at] > 0 and job.at <= now]
        if not here:
            now = min(job.at for at, job in enumerate(trace) if left[at] > 0)
            continue
        begun = time.process_time()
        chosen = policy([_contender(trace, at, left[at], now, running) for at in here], now)
        deciding, decisions = deciding + time.process_time() - begun, decisions + 1
        _check_room(trace, chosen, fleet)
        lasts = 0.0
        for name, kind in chosen.items():
            job, rate = int(name), trace[int(name)].rates[kind]
            idle = 0.0 if running.get(name) == kind else restart
            ran = min(idle + left[job] / rate, interval)
            left[job] -= rate * (ran - idle)
            if left[job] <= 1e-6 * rate:
                left[job], ends[job] = 0.0, now + ran
            lasts = max(lasts, ran)
        running, now = chosen, now + (lasts or interval)
    durations = np.array(ends) - [job.at for job in trace]
    return Outcome(durations, max(ends), decisions, deciding)


def _contender(trace: Trace, at: int, left: float, now: float, running: Mapping[str, str]) -> Contender:
    job, name = trace[at], str(at)
    return Contender(
        job=name,
        remaining=left,
        rates=job.rates,
        devices=job.devices,
        weight=job.weight,
        age=now - job.at,
        running_on=running.get(name),
    )


def _check_room(trace: Trace, chosen: Mapping[str, str], fleet: Mapping[str, int]) -> None:
    """A policy that gives out more than there is has no figures."""
    for kind, count in fleet.items():
        used = sum(trace[int(name)].devices for name, on in chosen.items() if on == kind)
        if used > count:
            raise ValueError(f"{used} of {count} {kind} were given out")
