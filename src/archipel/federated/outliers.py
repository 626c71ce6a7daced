"""Outliers: updates whose norm is far beyond those of the rest of their round. None is passed over in silence.

    outliers_of("delta", ["a", "b", "c"], norms, handled="shortened")
    described(outlier)      # "part 'delta' of b has norm 41.2, the median is 1.3: shortened"

An honest update's norm grows with a site's rows and the strangeness of its data, so the limit is a generous multiple
of the cohort's median; what a few sites claim cannot move the median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from archipel.federated.port import Block, Outlier

FAR = 10.0
"""Times the median norm of its round: a longer update is an outlier."""
Norms = npt.NDArray[np.floating[Any]]


def square_of(values: Block) -> float:
    """Return the square of the norm; infinite only where float64 cannot hold it, NaN where there is one."""
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(np.dot(values, values))
        if math.isfinite(square) or values.dtype == np.float64:
            return square
        wide = values.astype(np.float64)
        return float(np.dot(wide, wide))


def limit_of(norms: Norms) -> float:
    """Return the norm from which on an update is an outlier among `norms`, shape (updates,)."""
    return FAR * float(np.median(norms))


def outliers_of(
    part: str, sites: Sequence[str], norms: Norms, *, handled: Literal["counted", "shortened"]
) -> list[Outlier]:
    """Return the outliers among updates of these norms, shape (sites,), all finite; in the order of the sites."""
    limit = limit_of(norms)
    return [
        Outlier(site=site, part=part, norm=float(norm), median=limit / FAR, handled=handled)
        for site, norm in zip(sites, norms, strict=True)
        if norm > limit
    ]


def described(outlier: Outlier) -> str:
    """Return one line on an outlier, for people."""
    what = "holds NaN or infinity"
    if outlier.norm is not None:
        what = f"has norm {outlier.norm:.3g}, the median is {outlier.median:.3g}"
    return f"part {outlier.part!r} of {outlier.site} {what}: {outlier.handled}"
