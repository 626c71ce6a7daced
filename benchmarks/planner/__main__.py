"""How far plans are above their bound, on instances of a fixed recipe, beside the longest-first greedy rule.

    cd benchmarks && python -m planner
    cd benchmarks && python -m planner --seeds 1

Each instance gets its seconds of CPU time, so that other work on the machine does not count; with --wall, of wall time,
in which a busy machine makes worse plans. The figure of a size is the worst of its seeds. Rows go to
results/local/planner.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archipel.planner.assignment import Instance, assign
from planner.instances import draw_instance

RESULTS = Path(__file__).parent.parent / "results" / "local" / "planner.json"


@dataclass(frozen=True)
class Size:
    """A size of instance, its seconds, and the gap that is aimed at."""

    machines: int
    jobs: int
    eligible: float
    seconds: float
    goal_percent: float


SIZES = (Size(10, 100, 0.47, 5, 2.0), Size(50, 500, 0.4, 10, 5.0), Size(200, 4000, 0.065, 5, 3.0))


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(prog="planner", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=3, help="instances of each size")
    parser.add_argument("--wall", action="store_true", help="count wall time")
    wanted = parser.parse_args(words)
    versions = {name: importlib.metadata.version(name) for name in ("archipel", "highspy", "numpy")}
    versions |= {"python": platform.python_version()}
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    rows = [row | {"versions": versions} for size in SIZES for row in _rows(size, wanted)]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    print(f"rows written to benchmarks/results/local/{RESULTS.name}")


def _rows(size: Size, wanted: argparse.Namespace) -> list[dict[str, object]]:
    gaps, greedy, taken = [], [], []
    clock, unit = (time.monotonic, "s") if wanted.wall else (time.process_time, "CPU-s")
    for seed in range(wanted.seeds):
        instance = draw_instance(machines=size.machines, jobs=size.jobs, eligible=size.eligible, seed=seed)
        begun = clock()
        found = assign(instance, seconds=size.seconds, clock=clock)
        taken.append(clock() - begun)
        gaps.append(100 * found.gap)
        greedy.append(100 * (longest_first(instance) / found.bound - 1))
        print(f"{size.machines} x {size.jobs}, seed {seed}: {gaps[-1]:.2f} % in {taken[-1]:.2f} {unit}", flush=True)
    what = f"{size.machines} machines x {size.jobs} jobs, {size.seconds:g} {unit}, worst of {wanted.seeds}"
    met = max(gaps) <= size.goal_percent
    print(f"{what}: {max(gaps):.2f} % above the bound, goal <= {size.goal_percent:g}: {'met' if met else 'NOT met'}")
    return [
        _row(f"{what}: above the bound", max(gaps), "%", f"<= {size.goal_percent:g}", met=met),
        _row(f"{what}: longest-first greedy, above the same bound", max(greedy), "%"),
        _row(f"{what}: time", max(taken), unit),
    ]


def _row(name: str, value: float, unit: str, goal: str = "", *, met: bool | None = None) -> dict[str, object]:
    return {"name": name, "value": round(value, 3), "unit": unit, "goal": goal, "met": met}


def longest_first(instance: Instance) -> float:
    """Give each job, the longest first, to the machine on which it ends first; return when the last is done."""
    seconds = instance.seconds
    loads = np.zeros(seconds.shape[1])
    for job in np.argsort(-seconds.min(axis=1)):
        machine = int((loads + seconds[job]).argmin())
        loads[machine] += seconds[job, machine]
    return float(loads.max())


if __name__ == "__main__":
    main()
