"""Multi-Krum: the mean of the n - f updates with the smallest Krum scores.

Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", arXiv:1703.02757, section 4,
m-Krum; with m = n - f as in Allouah et al., arXiv:2302.01772.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archipel.federated.robust.krum import scores
from archipel.federated.robust.port import Matrix


class MultiKrum:
    """The mean of the most central updates."""

    name = "multi-krum"

    def least(self, tolerate: int) -> int:
        """Return 2 f + 3, as for Krum."""
        return 2 * tolerate + 3

    def weigh(self, pairs: Matrix, tolerate: int) -> npt.NDArray[np.float64]:
        """Return 1 / (n - f) for the rows of the n - f smallest scores, 0 for the others."""
        taken = len(pairs) - tolerate
        weights = np.zeros(len(pairs))
        weights[np.argsort(scores(pairs, tolerate), kind="stable")[:taken]] = 1 / taken
        return weights
