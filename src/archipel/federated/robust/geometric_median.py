"""Geometric median: the point from which the sum of the distances to all updates is smallest.

Pillutla et al., "Robust Aggregation for Federated Learning", arXiv:1912.13445, Algorithm 2, the smoothed Weiszfeld
algorithm, with equal weights: beta_i = 1 / max(nu, |v - x_i|), v = sum_i beta_i x_i / sum_i beta_i, from the mean on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archipel.federated.robust.port import Matrix, distances_from

SMOOTHING = 1e-6
"""nu, in parts of the median distance: the scale of updates is the job's own."""
MOST_STEPS = 200
SETTLED = 1e-9
"""A step that moves no weight by more than this is the last."""


class GeometricMedian:
    """The point nearest to all."""

    name = "geometric-median"

    def least(self, tolerate: int) -> int:
        """Return 2 f + 1: its breakdown point is one half."""
        return 2 * tolerate + 1

    def weigh(self, pairs: Matrix, tolerate: int) -> npt.NDArray[np.float64]:  # noqa: ARG002 - the port's signature
        """Return the weights of the rows, which add up to 1."""
        weights = np.full(len(pairs), 1 / len(pairs))
        for _ in range(MOST_STEPS):
            distances = distances_from(weights, pairs)
            floor = SMOOTHING * float(np.median(distances))
            if floor == 0:
                break  # most rows are this very point
            pull = 1 / np.maximum(distances, floor)
            before, weights = weights, pull / pull.sum()
            if np.abs(weights - before).max() < SETTLED:
                break
        return weights
