"""Feature scaling from sums over all sites: what each site adds up, and the constants that follow.

    sums = feature_sums(matrix)          # at a site: counts, sums and squares a feature; these leave the site
    mean, scale = scaling(added_sums)    # anywhere, from the added sums of all sites

Missing values (NaN) are left out of all three. A feature that never varies gets scale 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.spec import ShapeError
from archipel.tasks.port import Sums

Array = npt.NDArray[Any]

COUNT, SUM, SQUARE = "features.count", "features.sum", "features.square"


def feature_sums(matrix: Array) -> Sums:
    """Return per feature (column of `matrix`) how many values there are, their sum and the sum of their squares."""
    values = np.asarray(matrix, dtype=np.float64)
    if values.ndim != 2:
        raise ShapeError(f"feature sums need (rows, features), got shape {values.shape}", hint="stack the columns")
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    return {
        COUNT: known.sum(axis=0, dtype=np.float64),
        SUM: filled.sum(axis=0),
        SQUARE: np.square(filled).sum(axis=0),
    }


def scaling(sums: Mapping[str, Array]) -> tuple[Array | None, Array | None]:
    """Return (mean, standard deviation) a feature; (None, None) where no statistics were gathered."""
    if COUNT not in sums:
        return None, None
    count = np.maximum(sums[COUNT], 1.0)
    mean = sums[SUM] / count
    variance = sums[SQUARE] / count - np.square(mean)
    # Rounding leaves a variance of about 1e-16 of the square where every value is the same.
    varies = variance > 1e-12 * np.maximum(np.square(mean), 1e-300)
    return mean, np.sqrt(np.where(varies, variance, 1.0))
