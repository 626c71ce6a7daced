"""The port of a selection, which clients a round asks, and those that need to know nothing of the training.

    selection.choose(step, size=100, now=60.0)          # clients, sorted
    selection.hear(step, {17: 2.3})                     # the mean losses they told, for selections that listen

Tiers: Chai et al. 2020, "TiFL: A Tier-based Federated Learning System", arXiv:2001.09249, section 4.2. A round asks
clients of one tier, so nobody waits for another tier's; theirs are drawn by credits and accuracies, ours by time.
"""

from __future__ import annotations

import bisect
from collections.abc import Container, Mapping
from typing import Protocol

import numpy as np

from archipel.simulation.clock.drawing import draw_available
from archipel.simulation.clock.fleet import Fleet
from archipel.simulation.clock.port import Heard
from archipel.simulation.population.port import draw_cohort

TIER_STREAM = 0x71E25


class Selection(Protocol):
    """Who is asked."""

    @property
    def listens(self) -> bool:
        """Does it go by what clients tell?"""
        ...

    @property
    def heard(self) -> tuple[Heard, ...]:
        """All that it goes by beside the seed."""
        ...

    def choose(self, step: int, size: int, now: float, busy: Container[int] = ()) -> list[int]:
        """Return up to `size` clients that are not busy, sorted."""
        ...

    def hear(self, step: int, losses: Mapping[int, float]) -> None:
        """Take note of the mean loss of each client folded in a round."""
        ...


class Deaf:
    """What selections have in common that go by nothing they hear."""

    listens = False
    heard: tuple[Heard, ...] = ()

    def hear(self, step: int, losses: Mapping[int, float]) -> None:
        """Pass it over."""


class Anybody(Deaf):
    """Each client with the same chance; without a table of time the cohorts are the same ones."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def choose(self, step: int, size: int, now: float, busy: Container[int] = ()) -> list[int]:
        """Draw from all, or those that are available first."""
        population, devices, seed = self._fleet.population, self._fleet.devices, self._fleet.seed
        if devices.always and busy == ():
            return draw_cohort(population, size, seed, step)
        return draw_available(population, devices, size, seed=seed, number=step, now=now, busy=busy)


class Tiers(Deaf):
    """Clients of one tier by the time they take, drawn with a chance that falls with that time."""

    def __init__(self, fleet: Fleet, *, tiers: int, bias: float) -> None:
        """A tier that takes twice as long is asked 2 to the power of `bias` times less."""
        self._fleet = fleet
        self._limits = [fleet.quantile(place / tiers) for place in range(1, tiers)]
        middles = np.array([fleet.quantile((place + 0.5) / tiers) for place in range(tiers)])
        chances = np.maximum(middles, 1e-9) ** -bias
        self._chances = chances / chances.sum()

    def choose(self, step: int, size: int, now: float, busy: Container[int] = ()) -> list[int]:
        """Draw a tier, then clients of it: fewer than `size` where it has no more."""
        fleet = self._fleet
        drawn = int(np.random.default_rng((fleet.seed, step, TIER_STREAM)).choice(len(self._chances), p=self._chances))
        return draw_available(
            fleet.population,
            fleet.devices,
            size,
            seed=fleet.seed,
            number=step,
            now=now,
            busy=busy,
            fits=lambda client: bisect.bisect_left(self._limits, fleet.seconds(client)) == drawn,
        )
