"""What a task's sums go through before they leave: added up, float64, finite, histograms only where allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from archipel.spec import require_finite
from archipel.tasks.metrics.classification import HISTOGRAM
from archipel.tasks.port import Sums


def added(parts: Iterable[Mapping[str, Any]]) -> Sums:
    """Add the sums of batches; {} where there are none."""
    total: Sums = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total[name] + value if name in total else value
    return total


def disclosed(raw: Mapping[str, Any], *, histograms: bool) -> Sums:
    """Return a task's sums as they may leave the site.

    Raises:
        NonFiniteError: a sum holds NaN or infinity; names it.
    """
    sums = {str(name): np.array(value, dtype=np.float64) for name, value in raw.items()}
    for name, value in sums.items():
        require_finite(f"the sum {name!r}", value)
    return {name: value for name, value in sums.items() if histograms or name != HISTOGRAM}
