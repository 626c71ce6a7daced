"""SiteData: what a task is given to read, the site's own folder or file and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt


class SiteData(msgspec.Struct, frozen=True, kw_only=True):
    """A data set at a site, after the contract's check."""

    site: str
    path: Path
    """The folder or file the site registered under the data set's name."""
    columns: Mapping[str, npt.NDArray[Any]]
    """Column → values of the rows that passed the contract, in file order: float64 for "number", int64 for
    "integer", str for "category" and "text". Empty where the contract names no columns (the task reads `path`)."""
    row_ids: npt.NDArray[np.int64]
    """Position of each kept row in the source, stable under quarantine; shape (rows,)."""
