"""The clients of a timeline as it sees them: how long each takes, and which are slow among all.

    fleet = Fleet(population, devices, load, seed)
    fleet.seconds(17)                # all of its work: receive, train, send
    fleet.quantile(0.7)              # so long take 70 % of the clients, by a sample
    fleet.give(17, step=3, now=60.0)

What all clients take is estimated from a sample drawn from the seed; nothing else is kept of a client.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import msgspec

from archipel.simulation.clock.devices import Devices, Load
from archipel.simulation.clock.port import Assignment, Waste
from archipel.simulation.population.permutation import Permutation
from archipel.simulation.population.port import Population

SAMPLE, SAMPLE_STREAM = 1000, 0x5A3D1
SLOWEST = 0.9
"""Slow is who takes longer than this share of the clients."""


class Fleet:
    """One job's clients and their devices."""

    def __init__(self, population: Population, devices: Devices, load: Load, seed: int) -> None:
        self.population = population
        self.devices = devices
        self.load = load
        self.seed = seed

    def rows(self, client: int) -> int:
        """Return how many rows the client has."""
        return len(self.population.rows(client))

    def seconds(self, client: int) -> float:
        """Return how long all of the client's work takes while it is available."""
        return self.devices.device(client).seconds(self.load, self.rows(client))

    def quantile(self, share: float) -> float:
        """Return the seconds in which that share of the clients have done all of their work."""
        return self._taken[max(math.ceil(share * len(self._taken)) - 1, 0)]

    def slow(self, folded: Sequence[Assignment]) -> int | None:
        """Count those of the slowest tenth; None: clients take too much alike to tell."""
        limit = self.quantile(SLOWEST)
        if self._taken[-1] == limit:
            return None
        return sum(self.seconds(one.client) > limit for one in folded)

    def give(self, client: int, *, step: int, now: float, rows: int | None = None) -> Assignment:
        """Give the client the model that begins round `step`, now, to train on so many of its rows (None: all)."""
        rows = self.rows(client) if rows is None else rows
        ends = self.devices.device(client).finish(self.load, now, rows)
        return Assignment(client=client, step=step, ends=ends, began=now, rows=rows)

    def worked(self, folded: Sequence[Assignment]) -> float:
        """Return the seconds of work in these assignments."""
        return math.fsum(self.devices.device(one.client).seconds(self.load, one.rows) for one in folded)

    def wasted(self, assignments: Sequence[Assignment], until: float) -> Waste:
        """Add up what clients did until then for nothing."""
        spent = [self.devices.device(one.client).worked(self.load, one.began, until, one.rows) for one in assignments]
        return Waste(
            clients=len(spent),
            examples=sum(rows for _, rows in spent),
            seconds=math.fsum(seconds for seconds, _ in spent),
        )

    @cached_property
    def _taken(self) -> list[float]:
        """What the clients of the sample take, sorted."""
        order = Permutation(self.population.count, (self.seed, SAMPLE_STREAM))
        return sorted(self.seconds(order(place)) for place in range(min(SAMPLE, self.population.count)))


def in_order(folded: Sequence[Assignment]) -> tuple[Assignment, ...]:
    """Return assignments in the order in which their updates are added."""
    return tuple(sorted(folded, key=lambda one: (one.step, one.client, one.again)))


def numbered(one: Assignment, number: int, again: int = 0) -> Assignment:
    """Return the assignment with its number, and how many the client had before from the same model."""
    return msgspec.structs.replace(one, number=number, again=again)
