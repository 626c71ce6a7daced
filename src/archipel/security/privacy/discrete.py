"""Whole-numbered Gaussian noise in shares: each of several parties adds its own, and only the sum is ever seen.

Kairouz, Liu and Steinke 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
Aggregation", arXiv:2102.06387, proposition 14: n shares of deviation s on whole numbers, which one unit moves by no
more than D in the L2 norm, have Renyi divergences

    min( a/2 (D / (sqrt(n) s))^2 + tau d,  a/2 (D / (sqrt(n) s) + tau sqrt(d))^2 )
    tau = 10 * sum over k < n of exp(-2 pi^2 s^2 k / (k + 1))

From LEAST_DEVIATION on tau is below 10^-4,000,000, whatever n: the sum costs what Gaussian noise of multiplier
sqrt(n) s / D costs, as far as Renyi divergences tell. Nothing is known of privacy loss distributions.

A share is a normal number rounded to the next whole one. The chance of y is then that of the discrete Gaussian but for
a factor of 1 + (y^2/s^2 - 1) / (24 s^2) (the curvature within one step), which for the deviations that secure
aggregation has, 2^20 and more, is 1 within 3e-12 up to nine deviations out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from archipel.security.privacy.noise import NoiseStream
from archipel.spec import SpecError

LEAST_DEVIATION = 1024.0
_BLOCK = 1 << 16


def share_deviation(total: float, *, sharers: int) -> float:
    """Return the deviation of each of so many shares whose sum has deviation `total`."""
    return float(total / np.sqrt(sharers))


def whole_noise(stream: NoiseStream, count: int, deviation: float) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Yield (start, whole numbers) of one share of `count` elements, block by block, as float64.

    Raises:
        SpecError: the numbers are too coarse for the noise.
    """
    if deviation < LEAST_DEVIATION:
        raise SpecError(
            f"noise of {deviation:.3g} steps is too fine for the steps in which updates are added",
            hint="raise noise_multiplier in [privacy.distributed], or let fewer sites take part in one sum",
        )
    for start in range(0, count, _BLOCK):
        yield start, np.rint(stream.standard(start, min(_BLOCK, count - start)) * deviation)
