"""Adding the sums of sites (statistics, evaluation) in a fixed order, in float64.

    add_sums([("a", {"rows": …}), ("b", {"rows": …})])["rows"]

Sites may have different keys (each scores its own models): a key's sum is over the sites that have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.federated.contribution import NonFiniteUpdateError, ShapeUpdateError

Array = npt.NDArray[Any]


def add_sums(sums: Iterable[tuple[str, Mapping[str, Array]]]) -> dict[str, Array]:
    """Add (site, name → array) pairs in the order given; names come out sorted.

    Raises:
        NonFiniteUpdateError: a site's sum holds NaN or infinity.
        ShapeUpdateError: a site's sum has another shape than an earlier site's of the same name, or is not a number.
    """
    total: dict[str, Array] = {}
    for site, arrays in sums:
        for name, array in arrays.items():
            values = _checked(site, name, array)
            if name not in total:
                total[name] = values
                continue
            if total[name].shape != values.shape:
                raise ShapeUpdateError(
                    site,
                    f"sum {name!r} of {site} has shape {values.shape}, others {total[name].shape}",
                    hint="the task must compute the same sums at every site",
                )
            total[name] = total[name] + values
    return {name: total[name] for name in sorted(total)}


def _checked(site: str, name: str, array: Array) -> Array:
    if array.dtype.kind not in "fiub":
        raise ShapeUpdateError(site, f"sum {name!r} of {site} is {array.dtype}", hint="sums are float64 arrays")
    values = np.array(array, dtype=np.float64)
    if not np.isfinite(values).all():
        raise NonFiniteUpdateError(
            site,
            f"sum {name!r} of {site} holds NaN or infinity",
            hint="let the task leave out missing values, or name the column in the data contract",
        )
    return values
