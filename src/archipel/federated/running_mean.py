"""A weighted mean that is added up one update at a time, in an order of operations that is the same everywhere.

    mean = RunningMean(size, dtype)
    for values, share in …:                  # in the order of the sites' names; shares add up to 1
        mean.add(values, share)
    mean.take()                              # (size,); the next mean begins

Each update is multiplied and added elementwise, which is exact IEEE arithmetic: the bits depend neither on the block
size nor on the number of BLAS threads. Every GROUP updates the partial sum joins the total, which keeps rounding errors
small for large cohorts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archipel.federated.port import Block

GROUP = 64
"""Updates added up before the partial sum joins the total."""


class RunningMean:
    """Holds two vectors and the total, whatever the number of updates."""

    def __init__(self, size: int, dtype: np.dtype[np.floating[Any]]) -> None:
        self._dtype = dtype
        self._group = np.empty(size, dtype)
        self._product = np.empty(size, dtype)
        self._total: Block = np.empty(0, dtype)
        self.begin(size)

    @property
    def scratch(self) -> Block:
        """Memory in which the next update may be given to `add`."""
        return self._product[: self._size]

    def begin(self, size: int) -> None:
        """Begin a mean of so many columns, at most as many as there is memory for."""
        self._size = size
        self._count = 0

    def add(self, values: Block, share: float) -> None:
        """Add an update's part of the mean; overflow gives infinity and numpy's warning."""
        weight = self._dtype.type(share)
        group, product = self._group[: self._size], self.scratch
        if self._count % GROUP:
            np.multiply(values, weight, out=product)
            np.add(group, product, out=group)
        else:
            self._join()
            np.multiply(values, weight, out=group)
        self._count += 1

    def take(self) -> Block:
        """Return the mean (zeros where nothing was added), and begin the next one of the same size."""
        if not self._count:
            return np.zeros(self._size, self._dtype)
        self._join()
        found = self._total
        self.begin(self._size)
        return found

    def _join(self) -> None:
        """Let the partial sum join the total; the first becomes it."""
        if not self._count:
            return
        group = self._group[: self._size]
        if self._count <= GROUP:
            self._total = group.copy()
        else:
            np.add(self._total, group, out=self._total)
