"""Noise of which later rounds take back a part: less of it adds up in a model, for units that seldom take part.

A model is a running sum of its rounds' updates, so what counts is the noise of sums, not of rounds. Round t is
published with

    N_t = xi_t + r_1 xi_{t-1} + … + r_{p-1} xi_{t-p+1}          r(x) = (1 - x)^{1/2}, cut off after p terms

where every xi is fresh Gaussian noise: the banded inverse square root (Kalinin, McKenna, Upadhyay and Lampert 2025,
"Back to Square Roots", arXiv:2505.12128), a matrix mechanism for DP-FTRL (Denisov et al. 2022, arXiv:2202.08312). All
rounds together are one Gaussian mechanism, of the sums C·updates with c(x) = 1 / r(x). One unit that takes part at most
k times, b rounds apart or more, moves them by no more than

    || c + x^b c + … + x^{(k-1)b} c ||                          c: not negative, and never rising

times the clip norm (Kalinin and Lampert 2024, arXiv:2405.13763, theorem 2). One term (p = 1) is independent noise.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

Coefficients = npt.NDArray[np.float64]
MOST_BANDS = 64
"""Each band costs one stream of noise a round; more take back little."""


def taps(bands: int) -> Coefficients:
    """Return 1, r_1 … r_{p-1}, (bands,): how much of which round's fresh noise is in a round's."""
    ratios = [(2 * k - 3) / (2 * k) for k in range(1, bands)]
    return np.cumprod(np.array([1.0, *ratios]))


def sensitivity(*, bands: int, steps: int, participations: int, separation: int) -> float:
    """Return how far a unit moves all rounds' sums together, for a contribution of norm 1 a round."""
    column = _column(bands, steps)
    assert (column >= 0).all(), "theorem 2 asks for it"
    assert (np.diff(column) <= 0).all(), "theorem 2 asks for it"
    moved = np.zeros(steps)
    for start in range(0, min(participations * separation, steps), separation):
        moved[start:] += column[: steps - start]
    return float(np.linalg.norm(moved))


def summed_error(bands: int, steps: int) -> float:
    """Return the deviation of a running sum's noise, over that of xi; root mean square over the steps."""
    kept = np.full(steps, taps(bands).sum())
    kept[: min(bands, steps)] = np.cumsum(taps(bands))[:steps]
    return math.sqrt(float(np.mean(np.cumsum(kept**2))))


@cache
def best_bands(*, steps: int, participations: int, separation: int) -> int:
    """Return the number of bands whose sums have the least noise at the same privacy; 1: correlation does not pay."""

    def error(bands: int) -> float:
        moved = sensitivity(bands=bands, steps=steps, participations=participations, separation=separation)
        return moved * summed_error(bands, steps)

    return min(range(1, min(MOST_BANDS, steps) + 1), key=error)


def _column(bands: int, steps: int) -> Coefficients:
    """Return the first column of C, (steps,): the power series of 1 / r."""
    back = -taps(bands)[:0:-1]
    column = np.zeros(steps)
    column[0] = 1.0
    for step in range(1, steps):
        reach = min(step, bands - 1)
        column[step] = column[step - reach : step] @ back[len(back) - reach :] if reach else 0.0
    return column
