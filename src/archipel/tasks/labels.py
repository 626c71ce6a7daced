"""Labels as numbers: position of each value in the task's classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.spec import DataError


def encode_labels(values: npt.NDArray[Any], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return each value's position in `classes`; a value that is none of them is an error that does not repeat it."""
    position = {name: index for index, name in enumerate(classes)}
    codes = np.array([position.get(str(value), -1) for value in values.tolist()], dtype=np.int64)
    unknown = int((codes < 0).sum())
    if unknown:
        raise DataError(
            f"{unknown} labels are none of {', '.join(classes)}",
            hint="list the classes in `values` of the label's column in [data.contract]",
        )
    return codes
