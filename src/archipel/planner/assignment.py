"""Jobs onto unlike machines, each job whole on one: R||Cmax, with costs, a deadline and a budget.

    found = assign(Instance(seconds=…), seconds=5)
    found.value, found.bound, found.gap

Small instances are solved exactly, as a mixed-integer program. Of others the relaxation is rounded and improved by
local search, and what time is left goes to the mixed-integer program, begun from there. Whatever comes out carries a
bound that no assignment can beat: that of the relaxation, of the job that takes longest, or of branch and bound.

Results of a search that ends by time depend on the machine; the same instance solved to the end does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from archipel.planner.relaxation import price_out
from archipel.planner.search import improve
from archipel.planner.solver import Floats, Program, Solved, solve

Objective = Literal["time", "cost", "energy"]
Clock = Callable[[], float]
_EXACT = 100
"""Pairs of job and machine up to which no heuristic is tried first."""
_MOST = 5_000
"""Pairs above which branch and bound finds nothing better in the time of a plan."""
_CLOSE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What each job takes on each machine."""

    seconds: Floats
    """Jobs x machines; infinity where a job may not run."""
    cost: Floats | None = None
    """Jobs x machines, in one currency; None: nothing costs anything."""
    energy: Floats | None = None
    """Jobs x machines, in J; None: not counted."""
    deadline: float = np.inf
    """Seconds in which the last machine must end."""
    budget: float = np.inf
    """What all jobs together may cost."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Each job's machine, and how far from the best it may be."""

    status: Literal["feasible", "infeasible", "unknown"]
    """"unknown": time ran out before an assignment was found or excluded."""
    machines: npt.NDArray[np.int64]
    """One a job; empty where there is none."""
    value: float
    """Of the objective: seconds of the last machine, or cost or energy of all jobs."""
    bound: float
    """No assignment is better."""

    @property
    def gap(self) -> float:
        """How far `value` may be above the best, as a share of the bound."""
        return self.value / self.bound - 1 if self.bound > 0 else 0.0 if self.value <= 0 else np.inf


def assign(
    instance: Instance, *, objective: Objective = "time", seconds: float = 5.0, clock: Clock = time.monotonic
) -> Assignment:
    """Assign each job to a machine within about `seconds` of searching."""
    end = clock() + seconds
    job, machine = np.nonzero(np.isfinite(instance.seconds))
    if len(np.unique(job)) < len(instance.seconds):
        return _nothing("infeasible")
    pairs = _Pairs(instance, objective, job, machine)
    if len(job) <= _EXACT:
        solved = pairs.solve(end - clock())
        if solved.status != "time":
            return pairs.found(solved)
    bound, share = price_out(instance.seconds, more=lambda: clock() < end)
    if max(bound, pairs.least) > instance.deadline * (1 + _CLOSE):
        return _nothing("infeasible")
    # Branch and bound gets half of the time, and none where there is too much to branch on.
    plain = objective == "time" and not np.isfinite(instance.budget)
    until = end if plain and len(job) > _MOST else clock() + (end - clock()) / 2
    bound = max(bound, pairs.least) if objective == "time" else 0.0
    start = pairs.held(improve(instance.seconds, share, bound=bound, more=lambda: clock() < until), bound)
    if plain and (len(job) > _MOST or start.gap < _CLOSE):
        return start
    return _better(start, pairs.found(pairs.solve(end - clock(), start=start)))


def _better(one: Assignment, other: Assignment) -> Assignment:
    """Return the better of two answers to one question, with the better of their bounds."""
    if other.status == "infeasible":
        return other
    best = other if other.value <= one.value else one
    return replace(best, bound=min(max(one.bound, other.bound), best.value))


def _nothing(status: Literal["infeasible", "unknown"], bound: float = np.inf) -> Assignment:
    return Assignment(status=status, machines=np.zeros(0, np.int64), value=np.inf, bound=bound)


def _taken(values: Floats | None, job: npt.NDArray[np.int64], machine: npt.NDArray[np.int64]) -> Floats:
    return np.zeros(len(job)) if values is None else values[job, machine]


def _loads(seconds: Floats, machines: npt.NDArray[np.int64]) -> Floats:
    taken = seconds[np.arange(len(machines)), machines]
    return np.bincount(machines, weights=taken, minlength=seconds.shape[1]).astype(np.float64)


class _Pairs:
    """The program over pairs of job and machine: x of each pair, then the time T of the last machine."""

    def __init__(
        self, instance: Instance, objective: Objective, job: npt.NDArray[np.int64], machine: npt.NDArray[np.int64]
    ) -> None:
        self.job, self.machine = job, machine
        self._instance = instance
        self._objective = objective
        self._seconds = instance.seconds[job, machine]
        self._cost = _taken(instance.cost, job, machine)
        self._goal = self._cost if objective == "cost" else _taken(instance.energy, job, machine)
        jobs, machines = instance.seconds.shape
        self.least = float(instance.seconds.min(axis=1).max()) if objective == "time" else 0.0
        """The longest of the jobs' shortest times: a bound where one job dominates."""
        count = len(job)
        rows = [job, jobs + machine, jobs + np.arange(machines), np.full(count, jobs + machines)]
        columns = [np.arange(count), np.arange(count), np.full(machines, count), np.arange(count)]
        self._row = np.concatenate(rows).astype(np.int32)
        self._column = np.concatenate(columns).astype(np.int32)
        self._entry = np.concatenate([np.ones(count), self._seconds, -np.ones(machines), self._cost])
        self._low = np.concatenate([np.ones(jobs), np.full(machines + 1, -np.inf)])
        self._high = np.concatenate([np.ones(jobs), np.zeros(machines), [instance.budget]])

    def solve(self, seconds: float, *, start: Assignment | None = None) -> Solved:
        count = len(self.job)
        by_time = self._objective == "time"
        program = Program(
            cost=np.append(np.zeros(count) if by_time else self._goal, 1.0 if by_time else 0.0),
            upper=np.append(np.ones(count), self._instance.deadline),
            whole=np.append(np.full(count, fill_value=True), False),
            row=self._row,
            column=self._column,
            entry=self._entry,
            low=self._low,
            high=self._high,
        )
        begun = None if start is None or start.status != "feasible" else self._as_values(start.machines)
        return solve(program, seconds=seconds, start=begun)

    def found(self, solved: Solved) -> Assignment:
        """Read a whole solution; its value is computed from the assignment, not taken from the solver."""
        if solved.status == "infeasible":
            return _nothing("infeasible")
        if not len(solved.values):
            return _nothing("unknown", solved.bound)
        taken = solved.values[:-1] > 0.5
        machines = np.zeros(len(self._instance.seconds), np.int64)
        machines[self.job[taken]] = self.machine[taken]
        found = self.held(machines, max(solved.bound, self.least))
        return replace(found, bound=found.value) if solved.status == "optimal" else found

    def held(self, machines: npt.NDArray[np.int64], bound: float) -> Assignment:
        """Hold an assignment against deadline and budget, with the slack a solver allows itself."""
        taken = machines[self.job] == self.machine
        load = float(_loads(self._instance.seconds, machines).max())
        value = load if self._objective == "time" else float(self._goal[taken].sum())
        kept = load <= self._instance.deadline * (1 + _CLOSE)
        if not kept or float(self._cost[taken].sum()) > self._instance.budget * (1 + _CLOSE):
            return _nothing("unknown", bound)
        return Assignment(status="feasible", machines=machines, value=value, bound=min(bound, value))

    def _as_values(self, machines: npt.NDArray[np.int64]) -> Floats:
        last = float(_loads(self._instance.seconds, machines).max())
        return np.append((machines[self.job] == self.machine).astype(np.float64), last)
