"""Least attained service that knows devices differ, as Gavel has it: the policy that ours is held against.

    policy = LeastAttained(FLEET)
    outcome = run_trace(trace, FLEET, policy)

Narayanan et al., "Heterogeneity-aware cluster scheduling policies for deep learning workloads", OSDI 2020: section 4.1
(max-min fairness of throughput over that of an equal share) and 5.2 (rounds: each kind of device takes jobs by their
share over the time that they got since shares were last computed). Shares are computed anew after jobs came or went,
at the most every 1,920 s. The linear program has many solutions; the mean of ten corners stands for its middle, which
an interior-point solver, as Gavel used, would return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from archipel.planner.sharing import Contender
from archipel.planner.solver import Floats, Program, solve

_RESET = 1920.0
"""Seconds between two computations of shares."""
_START = 180.0
"""Seconds that each job counts as having got on each kind: half of a round."""
_CORNERS = 10


class LeastAttained:
    """Remembers shares and the time that was got since."""

    def __init__(self, fleet: Mapping[str, int]) -> None:
        self._fleet = fleet
        self._kinds = list(fleet)
        self._shares: dict[str, Floats] = {}
        self._got: dict[str, Floats] = {}
        self._owed: dict[str, Floats] = {}
        self._computed_at = 0.0
        self._known: set[str] = set()
        self._last: tuple[float, Mapping[str, str]] = (0.0, {})

    def __call__(self, contenders: Sequence[Contender], now: float) -> Mapping[str, str]:
        """Say who runs where in the next round."""
        self._count(now)
        names = {contender.job for contender in contenders}
        due = now - self._computed_at >= _RESET or self._computed_at == 0
        if names != self._known and due:
            self._reset(contenders, now)
            self._known = names
        chosen = self._fill(contenders)
        self._last = (now, chosen)
        return chosen

    def _count(self, now: float) -> None:
        then, chosen = self._last
        for job, kind in chosen.items():
            self._got[job][self._kinds.index(kind)] += now - then

    def _reset(self, contenders: Sequence[Contender], now: float) -> None:
        """Write down what jobs are owed, which breaks ties, and begin anew."""
        passed = now - self._computed_at
        kinds = len(self._kinds)
        for contender in contenders:
            due = self._shares.get(contender.job, np.zeros(kinds)) * passed
            got = self._got.get(contender.job, np.full(kinds, _START)) - _START
            self._owed[contender.job] = self._owed.get(contender.job, np.zeros(kinds)) + due - got
            self._got[contender.job] = np.full(kinds, _START)
        shares = fair_shares(contenders, self._fleet)
        self._shares = {contender.job: share for contender, share in zip(contenders, shares, strict=True)}
        self._computed_at = now

    def _fill(self, contenders: Sequence[Contender]) -> Mapping[str, str]:
        """Fill kind after kind; a job that has no share yet keeps its place free but does not run."""
        taken: dict[str, str] = {}
        for at, kind in enumerate(self._kinds):
            room = self._fleet[kind]
            for contender in sorted(contenders, key=lambda contender: self._rank(contender, at), reverse=True):
                if contender.job not in taken and contender.rates[kind] > 0 and contender.devices <= room:
                    taken[contender.job], room = kind, room - contender.devices
        return {job: kind for job, kind in taken.items() if job in self._shares}

    def _rank(self, contender: Contender, at: int) -> tuple[float, float, float]:
        if contender.job not in self._shares:
            return 0.0, 0.0, 0.0
        share = float(self._shares[contender.job][at])
        return share / float(self._got[contender.job][at]), float(self._owed[contender.job][at]), share


def fair_shares(contenders: Sequence[Contender], fleet: Mapping[str, int]) -> Floats:
    """Return each job's (row's) share of time on each kind: the least of the jobs' speed-ups is as large as can be."""
    rates = np.array([[contender.rates[kind] for kind in fleet] for contender in contenders])
    weight = np.array([contender.weight for contender in contenders])
    blind = _most_of_the_least(np.ones_like(rates) / weight[:, None], contenders, fleet)
    equal = (rates * blind).sum(axis=1)
    return _most_of_the_least(rates / (weight * equal)[:, None], contenders, fleet)


def _most_of_the_least(gain: Floats, contenders: Sequence[Contender], fleet: Mapping[str, int]) -> Floats:
    """Max-min of a job's devices times its gain times its shares; the mean of corners of the solutions."""
    jobs, kinds = gain.shape
    count = jobs * kinds
    devices = np.array([contender.devices for contender in contenders], np.float64)
    job, kind = np.divmod(np.arange(count), kinds)
    every = np.arange(count)
    row, column = np.concatenate([job, jobs + kind, jobs + kinds + job]), np.tile(every, 3)
    entry = np.concatenate([np.ones(count), devices[job], (gain * devices[:, None]).ravel()])
    high = np.concatenate([np.ones(jobs), list(fleet.values()), np.full(jobs, np.inf)])

    def solved(cost: Floats, least: float) -> Floats:
        """With the last variable, by how much more than `least` each job gets."""
        program = Program(
            cost=cost,
            upper=np.append(np.ones(count), np.inf),
            whole=np.zeros(count + 1, bool),
            row=np.concatenate([row, jobs + kinds + np.arange(jobs)]).astype(np.int32),
            column=np.concatenate([column, np.full(jobs, count)]).astype(np.int32),
            entry=np.concatenate([entry, np.full(jobs, -1.0)]),
            low=np.concatenate([np.full(jobs + kinds, -np.inf), np.full(jobs, least)]),
            high=high,
        )
        return solve(program, seconds=10).values

    least = solved(np.append(np.zeros(count), -1.0), 0.0)[-1] * (1 - 1e-7)
    chance = np.random.default_rng(0)
    corners = [solved(np.append(-chance.random(count), 0.0), least)[:-1] for _ in range(_CORNERS)]
    return np.clip(np.mean(corners, axis=0).reshape(jobs, kinds), 0.0, 1.0)
