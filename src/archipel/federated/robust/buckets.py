"""Bucketing: updates are drawn into buckets of s, and each bucket's mean is a row.

Karimireddy et al., "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", arXiv:2006.09365, section 4,
Algorithm 1. Rows differ less than sites do; f lying sites spoil f rows at the most, of fewer. The draw follows from the
job's seed and the round, so that a run can be repeated: a site that knows the seed knows its bucket.
"""

from __future__ import annotations

import numpy as np

from archipel.federated.robust.port import Matrix


class Buckets:
    """Means of drawn ones."""

    name = "buckets"

    def __init__(self, size: int) -> None:
        self._size = size

    def rows(self, updates: int) -> int:
        """Return ceil(n / s); the last bucket may be smaller."""
        return -(-updates // self._size)

    def matrix(self, pairs: Matrix, tolerate: int, chance: np.random.Generator) -> Matrix:  # noqa: ARG002 - the port's
        """Return 1 / s for the updates of each bucket, 0 for the others."""
        order = chance.permutation(len(pairs))
        matrix = np.zeros((self.rows(len(pairs)), len(pairs)))
        for place, row in enumerate(matrix):
            members = order[place * self._size : (place + 1) * self._size]
            row[members] = 1 / len(members)
        return matrix
