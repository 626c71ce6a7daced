"""Gavel's traces: jobs with their work, their devices and their arrival, and how fast each runs on each kind of GPU.

    trace = read_trace(folder, "max_min_fairness.trace")
    redrawn = redraw(trace, seed=1)

The files are those of the public repository stanford-futuredata/gavel (Narayanan et al., OSDI 2020; MIT licence):
`scheduler/traces/physical_cluster/*.trace` and `scheduler/simulation_throughputs.json`. A line of a trace has ten
columns between tabs: kind of job, command, folder, name of the step argument, whether it needs data, steps, GPUs,
weight, service level (-1: none), arrival in s.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

FLEET = {"v100": 8, "p100": 16, "k80": 24}
"""Kind of GPU → how many: the cluster of the paper's physical experiments, and the order in which LAS fills it."""
NEEDED = ("max_min_fairness.trace", "minimize_makespan.trace", "simulation_throughputs.json")


@dataclass(frozen=True)
class Arrival:
    """One job of a trace."""

    steps: float
    devices: int
    weight: float
    at: float
    """Seconds from the start of the trace."""
    rates: dict[str, float]
    """Kind of GPU → steps a second on all of its devices; 0: it does not run there."""


Trace = tuple[Arrival, ...]
"""In the order of arrival."""


def read_trace(folder: Path, name: str) -> Trace:
    """Read the trace `name` and its jobs' rates."""
    table = json.loads((folder / "simulation_throughputs.json").read_text("utf-8"))
    return tuple(_arrival(line.split("\t"), table) for line in (folder / name).read_text("utf-8").splitlines())


def _arrival(columns: list[str], table: dict[str, dict[str, dict[str, float]]]) -> Arrival:
    kind, _, _, _, _, steps, devices, weight, _, at = columns
    rates = {gpu: table[gpu][f"('{kind}', {devices})"]["null"] for gpu in FLEET}
    return Arrival(float(steps), int(devices), float(weight), float(at), rates)


def redraw(trace: Trace, *, seed: int) -> Trace:
    """Return the same jobs in a drawn order; as many as before come at the start, the others as a Poisson process."""
    chance = np.random.default_rng(seed)
    later = sum(job.at > 0 for job in trace)
    gaps = chance.exponential(max(job.at for job in trace) / later, size=later)
    times = np.concatenate([np.zeros(len(trace) - later), np.cumsum(gaps)])
    return tuple(
        replace(trace[job], at=float(at)) for job, at in zip(chance.permutation(len(trace)), times, strict=True)
    )
