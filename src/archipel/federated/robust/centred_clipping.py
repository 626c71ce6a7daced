"""Centred clipping: the mean of what the updates say beyond a centre, none of it by more than a radius.

Karimireddy et al., "Learning from History for Byzantine Robust Optimization", arXiv:2012.10333, centered
clipping:

    v ← v + (1 / n) sum_i (x_i - v) min(1, tau / |x_i - v|)

The paper starts from the last round's result and takes a step or a few. Here each round starts from 0, which is the
model as it is, and steps are taken until v rests: then where it started from makes no difference, and nothing has to be
remembered between rounds. Without a `radius`, tau is the median distance from the centre, which most sites, and so
honest ones, decide. The paper's momentum at the sites is not here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archipel.federated.robust.port import Matrix, distances_from

MOST_STEPS = 200
SETTLED = 1e-9
"""A step that moves no weight by more than this is the last."""


class CentredClipping:
    """The clipped mean around a centre."""

    name = "centred-clipping"

    def __init__(self, radius: float | None) -> None:
        self._radius = radius

    def least(self, tolerate: int) -> int:
        """Return 2 f + 1: most sites must be honest."""
        return 2 * tolerate + 1

    def weigh(self, pairs: Matrix, tolerate: int) -> npt.NDArray[np.float64]:  # noqa: ARG002 - the port's signature
        """Return how much of each row is in v; the weights add up to less than 1 only where steps ran out."""
        count = len(pairs)
        weights = np.zeros(count)
        for _ in range(MOST_STEPS):
            distances = distances_from(weights, pairs)
            radius = float(np.median(distances)) if self._radius is None else self._radius
            share = np.divide(radius, distances, out=np.ones(count), where=distances > radius)
            before, weights = weights, weights * (1 - share.mean()) + share / count
            if np.abs(weights - before).max() < SETTLED:
                break
        return weights
