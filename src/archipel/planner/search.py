"""Local search for the time of the last machine: from shares of jobs to whole jobs, then move by move.

    machines = improve(seconds, shares, bound=…, more=lambda: clock() < end)

A job goes where its share is largest. Then jobs of the fullest machine are moved, or swapped with others, while the
fuller of the two machines gets less full; where no such step is left, a few jobs of the fullest machines are thrown
elsewhere at random (seed 0) and the search goes on, from the better of both (iterated local search).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_CLOSE = 1e-6
_WHOLE, _PART = 0.95, 0.02
"""Shares above which a job counts as whole, and above which a machine as a part of one that is split."""
_PATIENCE = 2000
"""Kicks without a better assignment after which the search gives up."""


def improve(seconds: Floats, share: Floats, *, bound: float, more: Callable[[], bool]) -> Ints:
    """Return each job's machine.

    Args:
        seconds: Jobs x machines; infinity where a job may not run.
        share: Jobs x machines: how much of a job the relaxation gives to a machine.
        bound: Ends the search where it is reached.
        more: May the search go on? Asked once a descent.
    """
    state = _State(seconds, _begin(seconds, share))
    state.descend(more)
    best, best_time = state.machines.copy(), state.time
    chance, kicks = np.random.default_rng(0), 0
    while more() and kicks < _PATIENCE and best_time > bound * (1 + _CLOSE):
        state.kick(chance)
        state.descend(more)
        kicks += 1
        if state.time < best_time:
            best, best_time, kicks = state.machines.copy(), state.time, 0
        elif state.time > best_time * 1.001:
            state = _State(seconds, best.copy())
    return best


def _begin(seconds: Floats, share: Floats) -> Ints:
    """Give whole jobs to their machine, and split ones, the longest first, to where of their parts they end first."""
    machines: Ints = share.argmax(axis=1)
    whole = share.max(axis=1) > _WHOLE
    loads = np.bincount(machines[whole], weights=seconds[whole, machines[whole]], minlength=seconds.shape[1])
    parts = np.where(share > _PART, seconds, np.inf)
    for job in sorted(np.flatnonzero(~whole), key=lambda job: -float(seconds[job].min())):
        machines[job] = int((loads + parts[job]).argmin())
        loads[machines[job]] += seconds[job, machines[job]]
    return machines


class _State:
    """An assignment, and how full it makes each machine."""

    def __init__(self, seconds: Floats, machines: Ints) -> None:
        self.machines = machines
        self._seconds = seconds
        self._own = seconds[np.arange(len(machines)), machines]
        self._loads = np.bincount(machines, weights=self._own, minlength=seconds.shape[1])

    @property
    def time(self) -> float:
        return float(self._loads.max())

    def descend(self, more: Callable[[], bool]) -> None:
        while more() and self._step(int(self._loads.argmax())):
            pass

    def kick(self, chance: np.random.Generator) -> None:
        """Throw a few jobs of the fullest machine and of two others elsewhere."""
        others = chance.integers(len(self._loads), size=2)
        for machine in (int(self._loads.argmax()), *others):
            jobs = np.flatnonzero(self.machines == machine)
            for job in chance.choice(jobs, size=min(2, len(jobs)), replace=False):
                ends = self._loads + self._seconds[job]
                ends[machine] = np.inf
                some = np.argsort(ends)[:4]
                some = some[np.isfinite(ends[some])]
                if len(some):
                    self._move(int(job), int(chance.choice(some)))

    def _step(self, full: int) -> bool:
        """Take the step from the fullest machine that leaves the fuller of the two least full."""
        jobs = np.flatnonzero(self.machines == full)
        top = self._loads[full]
        moved = np.maximum(self._loads[None, :] + self._seconds[jobs], (top - self._own[jobs])[:, None])
        moved[:, full] = np.inf
        row, machine = np.unravel_index(int(moved.argmin()), moved.shape)
        if moved[row, machine] < top * (1 - 1e-9):
            self._move(int(jobs[row]), int(machine))
            return True
        return self._swap(full, jobs, top)

    def _swap(self, full: int, jobs: Ints, top: float) -> bool:
        others = np.flatnonzero((self.machines != full) & np.isfinite(self._seconds[:, full]))
        if not len(others):
            return False
        places = self.machines[others]
        here = top - self._own[jobs][:, None] + self._seconds[others, full][None, :]
        there = (self._loads[places] - self._own[others])[None, :] + self._seconds[jobs[:, None], places[None, :]]
        after = np.maximum(here, there)
        row, column = np.unravel_index(int(after.argmin()), after.shape)
        if after[row, column] >= top * (1 - 1e-9):
            return False
        self._move(int(others[column]), full)
        self._move(int(jobs[row]), int(places[column]))
        return True

    def _move(self, job: int, machine: int) -> None:
        self._loads[self.machines[job]] -= self._own[job]
        self._own[job] = self._seconds[job, machine]
        self._loads[machine] += self._own[job]
        self.machines[job] = machine
