"""Bounding what one unit can do to a sum, with a bound that is fixed or follows a quantile of the norms.

Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping", arXiv:1905.03871, Algorithm 1:

    delta_i <- delta_i * min(1, C / ||delta_i||)
    b~      = (sum_i (b_i - 1/2) + N(0, sigma_b^2)) / m + 1/2            b_i: was update i within C?
    C       <- C * exp(-eta_C * (b~ - gamma))

The noise multiplier z of a job pays for both sums: the updates get z_delta = (z^-2 - (2 sigma_b)^-2)^(-1/2), which is a
little more than z (section 3.1), so that the round costs what one sum with z would.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from archipel.spec import SpecError
from archipel.spec.privacy import AdaptiveClip, CentralPrivacy

Vector = TypeVar("Vector", bound=npt.NDArray[np.floating[Any]])
SLACK = 1e-6
"""An update is scaled to so much below the bound, relatively, so that rounding to float32 does not lift it above."""
COUNT_SHARE = 1 / 20
"""Deviation of the noise on the count, over the cohort: the paper's choice (section 3.1)."""


def norm_of(vector: npt.NDArray[np.floating[Any]]) -> float:
    """Return the L2 norm, summed in float64 in an order that no library chooses."""
    return math.sqrt(float(np.sum(np.square(vector, dtype=np.float64))))


def clipped(vector: Vector, clip_norm: float) -> tuple[Vector, bool]:
    """Return the vector scaled to a norm of `clip_norm` at the most, and whether it was within it."""
    norm = norm_of(vector)
    if norm <= clip_norm:
        return vector, True
    scaled: Vector = vector * vector.dtype.type(clip_norm * (1 - SLACK) / norm)  # type: ignore[assignment]
    return scaled, False


def count_noise(adaptive: AdaptiveClip, cohort: float) -> float:
    """Return sigma_b, the deviation of the noise on how many updates were within the bound."""
    return adaptive.count_noise or cohort * COUNT_SHARE


def update_noise(central: CentralPrivacy, cohort: float) -> float:
    """Return z_delta, the noise multiplier of the sum of updates.

    Raises:
        SpecError: the count alone would cost more than the noise multiplier allows.
    """
    z = central.noise_multiplier
    if central.adaptive is None:
        return z
    left = z**-2 - (2 * count_noise(central.adaptive, cohort)) ** -2
    if left <= 0:
        raise SpecError(
            f"count_noise {count_noise(central.adaptive, cohort):.3g} of [privacy.central.adaptive] is too little for "
            f"the noise multiplier {z:.3g}",
            hint=f"set count_noise above {z / 2:.3g}, or take a larger cohort or a fixed clip norm",
        )
    return float(left**-0.5)


def next_clip(adaptive: AdaptiveClip, clip_norm: float, noisy_share: float) -> float:
    """Return the bound of the next round; `noisy_share` is b~."""
    return clip_norm * math.exp(-adaptive.learning_rate * (noisy_share - adaptive.quantile))
