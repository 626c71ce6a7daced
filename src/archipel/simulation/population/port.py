"""The port of a population: clients by number, each with its rows, none of them kept.

A client's rows follow from the seed and its number alone, so a population of a million takes no more memory than one
of ten, and who is asked first changes nothing.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from archipel.simulation.population.permutation import Permutation
from archipel.spec.job import Sampling
from archipel.tasks.port import Rows

COHORT_STREAM = 0xC0407
"""Keeps the draw of cohorts apart from everything else that is drawn from a job's seed."""


PART_STREAM = 0x9A27
"""Keeps the draw of a client's rows, where only a part fits, apart from the draw of its batches."""


class Population(Protocol):
    """Virtual clients of one data set."""

    @property
    def count(self) -> int:
        """How many clients there are."""
        ...

    def name(self, client: int) -> str:
        """Return the client's name; names sort as the numbers do."""
        ...

    def rows(self, client: int) -> Rows:
        """Return the client's rows of the training split."""
        ...


def draw_cohort(population: Population, size: int, seed: int, step: int, *, sampling: Sampling = "fixed") -> list[int]:
    """Return the clients that train in round `step` (from 1), sorted; all where there are no more than `size`.

    "poisson": each takes part by itself, with probability size / count; so many as that gives, none at times.
    "turns": the next `size` in an order that stays, round and round; so a client rests for at least count // size - 1
    rounds, and whoever asks for R rounds has each at most ceil(R * size / count) times.
    """
    count = population.count
    if size >= count:
        return list(range(count))
    if sampling == "turns":
        order = Permutation(count, (seed, COHORT_STREAM))
        return sorted(order(place % count) for place in range((step - 1) * size, step * size))
    rng = np.random.default_rng((seed, step, COHORT_STREAM))
    if sampling == "poisson":
        size = int(rng.binomial(count, size / count))
    return sorted(rng.choice(count, size, replace=False, shuffle=False).tolist())


def part_of(rows: Rows, count: int | None, seed: tuple[int, ...]) -> Rows:
    """Return `count` of a client's rows, drawn by the seed; None or more than there are: all."""
    if count is None or count >= len(rows):
        return rows
    return np.random.default_rng((*seed, PART_STREAM)).choice(rows, count, replace=False, shuffle=False)


def numbered(client: int, count: int) -> str:
    """Name a client by its number, with zeros before it."""
    return f"client-{client:0{len(str(count - 1))}d}"
