"""A fleet shared by jobs over time: our rule and heterogeneity-aware LAS on Gavel's public traces.

    cd benchmarks && python -m planner.sharing --traces FOLDER         # or ARCHIPEL_PLANNING=FOLDER
    cd benchmarks && python -m planner.sharing --traces FOLDER --seeds 0

FOLDER holds what `planner/traces.py` names; without it nothing is measured, which is said. Our rule knows how much work
a job has left and LAS does not. Rows go to results/local/sharing.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from archipel.planner.sharing import Aging, Contender, Rules, share_fleet
from archipel.planner.solver import Program, solve
from planner.las import LeastAttained
from planner.rounds import Outcome, Policy, run_trace
from planner.traces import FLEET, NEEDED, Trace, read_trace, redraw

RESULTS = Path(__file__).parent.parent / "results" / "local" / "sharing.json"
GAVEL = {"continuous": 14_623, "static": 35_659}
"""Mean completion time, in s, of heterogeneity-aware LAS in Gavel's own simulator (repository at c4fa400)."""
GAVEL_MAKESPAN = 64_721.0
"""The shortest makespan of its policies there, in s."""

Row = dict[str, object]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(prog="planner.sharing", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--traces", type=Path, default=os.environ.get("ARCHIPEL_PLANNING"), help="folder of the traces")
    parser.add_argument("--seeds", type=int, default=10, help="re-drawn arrivals of the continuous trace")
    wanted = parser.parse_args(words)
    folder = wanted.traces and Path(wanted.traces)
    absent = [name for name in NEEDED if not folder or not (folder / name).is_file()]
    if absent:
        print(f"not measured: no {', '.join(absent)}; name their folder with --traces or ARCHIPEL_PLANNING")
        return
    continuous, static = (read_trace(folder, name) for name in NEEDED[:2])
    versions = {name: importlib.metadata.version(name) for name in ("archipel", "highspy", "numpy")}
    versions |= {"python": platform.python_version()}
    measured = [*_las(continuous, static), *_ours(continuous, static), *_redrawn(continuous, wanted.seeds)]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([row | {"versions": versions} for row in measured], indent=2) + "\n", "utf-8")
    print(f"rows written to benchmarks/results/local/{RESULTS.name}")


def policy_of(rules: Rules, fleet: Mapping[str, int] = FLEET) -> Policy:
    """Return our rule as a policy of rounds."""

    def choose(contenders: Sequence[Contender], _now: float) -> Mapping[str, str]:
        return share_fleet(contenders, fleet, rules=rules).placed

    return choose


def least_makespan(trace: Trace, fleet: Mapping[str, int] = FLEET) -> float:
    """Return a time before which no schedule ends, in s, where all jobs are there from the start.

    Jobs may be split at will over kinds and time, as long as none runs on two at once: a linear program.
    """
    pairs = [(job, kind) for job, one in enumerate(trace) for kind in range(len(fleet)) if [*one.rates.values()][kind]]
    job, kind = np.array(pairs).T
    rates = np.array([list(one.rates.values()) for one in trace])[job, kind]
    devices = np.array([one.devices for one in trace])[job]
    jobs, kinds, count = len(trace), len(fleet), len(pairs)
    every, last = np.arange(count), np.full(jobs + kinds, count)
    program = Program(
        cost=np.append(np.zeros(count), 1.0),
        upper=np.full(count + 1, np.inf),
        whole=np.zeros(count + 1, bool),
        row=np.concatenate([job, jobs + job, 2 * jobs + kind, jobs + np.arange(jobs + kinds)]).astype(np.int32),
        column=np.concatenate([every, every, every, last]).astype(np.int32),
        entry=np.concatenate(
            [rates, np.ones(count), devices, np.full(jobs, -1.0), [-float(n) for n in fleet.values()]]
        ),
        low=np.concatenate([[one.steps for one in trace], np.full(jobs + kinds, -np.inf)]),
        high=np.concatenate([np.full(jobs, np.inf), np.zeros(jobs + kinds)]),
    )
    return solve(program, seconds=60).value


def _las(continuous: Trace, static: Trace) -> list[Row]:
    rows = []
    for name, trace in (("continuous", continuous), ("static", static)):
        found = run_trace(trace, FLEET, LeastAttained(FLEET))
        _show(f"{name}, LAS", found)
        mean, theirs = float(found.durations.mean()), GAVEL[name]
        print(f"  {100 * (mean / theirs - 1):+.1f} % beside Gavel's own simulator ({theirs:,} s)")
        rows += _figures(f"{name}, LAS", found)
        goal = 3.0 if name == "continuous" else None
        rows.append(_row(f"{name}, LAS: beside Gavel's simulator", 100 * abs(mean / theirs - 1), "%", goal))
    return rows


def _ours(continuous: Trace, static: Trace) -> list[Row]:
    rule, longest = Rules(), Rules(objective="makespan")
    unaged = run_trace(continuous, FLEET, policy_of(Rules(aging=Aging(power=0))))
    _show("continuous, ours without aging", unaged)
    rows = _figures("continuous, ours without aging", unaged)
    for restart in (0.0, 20.0):
        suffix = f", {restart:g} s a move" if restart else ""
        goals = (12_900.0, 33_400.0, 27_000.0, GAVEL_MAKESPAN) if not restart else (None,) * 4
        found = run_trace(continuous, FLEET, policy_of(rule), restart=restart)
        rows += _figures(f"continuous, ours{suffix}", found, mean=goals[0], tail=goals[1])
        _show(f"continuous, ours{suffix}", found)
        found = run_trace(static, FLEET, policy_of(rule), restart=restart)
        rows += _figures(f"static, ours{suffix}", found, mean=goals[2])
        _show(f"static, ours{suffix}", found)
        found = run_trace(static, FLEET, policy_of(longest), restart=restart)
        rows += _figures(f"static, makespan{suffix}", found, last=goals[3])
        _show(f"static, makespan{suffix}", found)
        bound = least_makespan(static)
        above = 100 * (found.makespan / bound - 1)
        print(f"  {above:.2f} % above the bound of the linear program ({bound:,.0f} s)")
        rows.append(_row(f"static, makespan{suffix}: above the bound", above, "%", None if restart else 1.5))
    return rows


def _redrawn(continuous: Trace, seeds: int) -> list[Row]:
    rows, better = [], []
    for seed in range(1, seeds + 1):
        trace = redraw(continuous, seed=seed)
        las = run_trace(trace, FLEET, LeastAttained(FLEET))
        ours = run_trace(trace, FLEET, policy_of(Rules()))
        better.append(100 * (1 - float(ours.durations.mean() / las.durations.mean())))
        tails = [float(np.percentile(found.durations, 99)) for found in (las, ours)]
        means = f"LAS {las.durations.mean():,.0f} s, ours {ours.durations.mean():,.0f} s, {better[-1]:.1f} % less"
        print(f"seed {seed}: mean {means}; p99 {tails[0]:,.0f} and {tails[1]:,.0f} s", flush=True)
        rows.append(_row(f"re-drawn arrivals, seed {seed}: mean less than LAS by", better[-1], "%"))
    if better:
        mean = float(np.mean(better))
        print(f"{seeds} seeds: {mean:.1f} % less on the mean, {min(better):.1f} to {max(better):.1f} %")
        rows.append(_row("re-drawn arrivals: mean less than LAS by, least of the seeds", min(better), "%"))
        rows.append(
            _row("re-drawn arrivals: mean less than LAS by", mean, "%") | {"goal": ">= 10", "met": mean >= 10.0}
        )
    return rows


def _show(name: str, found: Outcome) -> None:
    mean, tail = found.durations.mean(), np.percentile(found.durations, 99)
    milliseconds = 1000 * found.decision_seconds / found.decisions
    print(
        f"{name}: mean {mean:,.0f} s, p99 {tail:,.0f} s, makespan {found.makespan:,.0f} s; "
        f"{milliseconds:.0f} CPU-ms a decision",
        flush=True,
    )


def _figures(
    name: str, found: Outcome, *, mean: float | None = None, tail: float | None = None, last: float | None = None
) -> list[Row]:
    return [
        _row(f"{name}: mean completion", float(found.durations.mean()), "s", mean),
        _row(f"{name}: p99 completion", float(np.percentile(found.durations, 99)), "s", tail),
        _row(f"{name}: makespan", found.makespan, "s", last),
        _row(f"{name}: a decision", 1000 * found.decision_seconds / found.decisions, "CPU-ms"),
    ]


def _row(name: str, value: float, unit: str, most: float | None = None) -> Row:
    goal = "" if most is None else f"<= {most:g}"
    return {"name": name, "value": round(value, 3), "unit": unit, "goal": goal, "met": most and value <= most}


if __name__ == "__main__":
    main()
