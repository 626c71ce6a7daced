"""Random draws of a user's code, made repeatable: the global streams of numpy and Python are seeded around it.

    with seeded_draws(0):
        split = task.read(data, statistics)      # a split by np.random.permutation is the same in every process

The streams of the caller go on afterwards as if nothing had been drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

READING = 0
"""Seed of what a task draws while it reads its data and adds up statistics: both see the same split."""


@contextmanager
def seeded_draws(seed: int | Sequence[int]) -> Iterator[int]:
    """Seed the global streams of `random` and `numpy.random` inside the block; yield the number they are seeded by."""
    number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 (users' code may draw from it)
    random.seed(number)
    np.random.seed(number & (2**32 - 1))  # noqa: NPY002
    try:
        yield number
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
