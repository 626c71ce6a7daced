"""Cut one data set into parts as sites would hold it, for simulations: pure functions of rows, labels and a seed.

    by_key(islands)                               # natural: one part a value of a column
    dirichlet(labels, 10, alpha=0.5, seed=0)      # label skew: each class spread by a Dirichlet draw
    shards(labels, 10, shards_per_part=2, seed=0) # label skew: sorted by label, cut, dealt out
    quantity_skew(1000, 10, alpha=1.0, seed=0)    # sizes by a Dirichlet draw, labels left alone

Each returns row numbers a part, ascending; every row is in exactly one part; the same arguments give the same parts.

Dirichlet: Hsu, Qi and Brown 2019, arXiv:1909.06335. Shards: McMahan et al. 2017, arXiv:1602.05629, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.spec import DataError

Rows = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


def by_key(keys: Sequence[Any] | Array) -> dict[str, Rows]:
    """Return value → rows that have it, values in ascending order."""
    values, codes = np.unique(np.asarray(keys), return_inverse=True)
    return {str(value): np.flatnonzero(codes == code) for code, value in enumerate(values)}


def dirichlet(labels: Array, parts: int, *, alpha: float, seed: int, min_rows: int = 1) -> list[Rows]:
    """Spread the rows of each class over parts by a draw from Dirichlet(alpha); small alpha: few classes a part.

    Draws again until each part has `min_rows` rows, and gives up where a thousand draws do not do it.
    """
    _require(len(labels), parts, alpha, min_rows)
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    for _ in range(1000):
        dealt: list[list[Rows]] = [[] for _ in range(parts)]
        for rows in classes:
            for part, piece in zip(dealt, _cut(rng.permutation(rows), rng.dirichlet([alpha] * parts)), strict=True):
                part.append(piece)
        chosen = [np.sort(np.concatenate(part)) for part in dealt]
        if min(len(part) for part in chosen) >= min_rows:
            return chosen
    raise DataError(
        f"no draw gives each of {parts} parts {min_rows} rows", hint="use fewer parts, a larger alpha or lower min_rows"
    )


def shards(labels: Array, parts: int, *, shards_per_part: int, seed: int) -> list[Rows]:
    """Sort the rows by label, cut them into equal shards and deal out `shards_per_part` to each part."""
    _require(len(labels), parts * shards_per_part, 1.0, 1)
    order = np.argsort(labels, kind="stable")
    pieces = np.array_split(order, parts * shards_per_part)
    dealt = np.random.default_rng(seed).permutation(len(pieces)).reshape(parts, shards_per_part)
    return [np.sort(np.concatenate([pieces[piece] for piece in row])) for row in dealt]


def quantity_skew(rows: int, parts: int, *, alpha: float, seed: int, min_rows: int = 1) -> list[Rows]:
    """Spread rows at random, with sizes by a draw from Dirichlet(alpha) above `min_rows` for each part."""
    _require(rows, parts, alpha, min_rows)
    rng = np.random.default_rng(seed)
    order = rng.permutation(rows)
    sure, rest = order[: parts * min_rows].reshape(parts, min_rows), order[parts * min_rows :]
    pieces = _cut(rest, rng.dirichlet([alpha] * parts))
    return [np.sort(np.concatenate([own, more])) for own, more in zip(sure, pieces, strict=True)]


def _cut(rows: Rows, shares: npt.NDArray[np.float64]) -> list[Rows]:
    """Cut rows where the cumulated shares say, rounding down."""
    ends = np.minimum((np.cumsum(shares)[:-1] * len(rows)).astype(np.int64), len(rows))
    return list(np.split(rows, ends))


def _require(rows: int, parts: int, alpha: float, min_rows: int) -> None:
    if parts < 1 or not alpha > 0 or min_rows < 0:
        raise DataError(f"{parts} parts, alpha {alpha:g}, {min_rows} rows at least", hint="use numbers above zero")
    if rows < parts * min_rows or rows < parts:
        raise DataError(f"{rows} rows do not make {parts} parts", hint="use fewer parts")
