"""Nearest-neighbour mixing: each update becomes the mean of the n - f updates nearest to it, itself among them.

Allouah et al., "Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity", arXiv:2302.01772, section 4.
Any rule after it bears sites whose data differ as well as any rule can, up to constants (Theorem 1).
"""

from __future__ import annotations

import numpy as np

from archipel.federated.robust.port import Matrix, squared_distances


class NearestNeighbours:
    """Means of neighbours."""

    name = "nearest-neighbours"

    def rows(self, updates: int) -> int:
        """Return as many rows as updates."""
        return updates

    def matrix(self, pairs: Matrix, tolerate: int, chance: np.random.Generator) -> Matrix:  # noqa: ARG002 - the port's
        """Return 1 / (n - f) for each update's nearest, 0 for the others."""
        nearest = len(pairs) - tolerate
        distances = squared_distances(pairs)
        np.fill_diagonal(distances, -1)  # an update is its own nearest, also beside copies
        matrix = np.zeros_like(pairs)
        np.put_along_axis(matrix, np.argsort(distances, axis=1, kind="stable")[:, :nearest], 1 / nearest, axis=1)
        return matrix
