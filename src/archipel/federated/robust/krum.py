"""Krum: the one update that lies closest to its n - f - 2 nearest neighbours.

Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", arXiv:1703.02757, section 4:
the score of i is s(i) = sum of |x_i - x_j|^2 over the n - f - 2 vectors x_j closest to x_i (x_i itself not among them);
the vector of the smallest score is taken.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archipel.federated.robust.port import Matrix, squared_distances


class Krum:
    """The most central update."""

    name = "krum"

    def least(self, tolerate: int) -> int:
        """Return 2 f + 3, as in Proposition 4.2."""
        return 2 * tolerate + 3

    def weigh(self, pairs: Matrix, tolerate: int) -> npt.NDArray[np.float64]:
        """Return 1 for the row of the smallest score, 0 for the others."""
        weights = np.zeros(len(pairs))
        weights[np.argmin(scores(pairs, tolerate))] = 1
        return weights


def scores(pairs: Matrix, tolerate: int) -> npt.NDArray[np.float64]:
    """Return the score of each row, shape (rows,)."""
    nearest = np.sort(squared_distances(pairs), axis=1)
    found: npt.NDArray[np.float64] = nearest[:, 1 : len(pairs) - tolerate - 1].sum(axis=1)  # 0 is the row itself
    return found
