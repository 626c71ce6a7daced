"""The ports of robust aggregation: a mixing makes rows of the updates, a rule makes one vector of the rows.

    updates (n) ── mixing: matrix (rows, n) ──▶ rows ── rule ──▶ one vector

Rules come in two kinds. A column rule looks at each coordinate by itself. A weighing rule looks at how far the rows are
from each other, and says how much of each is taken; it sees their inner products alone, so no vector is ever whole in
memory. Rows and updates are in the order of the sites' names; what is a tie goes to the first.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from archipel.federated.port import Block

Matrix = npt.NDArray[np.float64]
"""Inner products of updates or rows, shape (rows, rows); or what a mixing takes of each, shape (rows, updates)."""
Rows = npt.NDArray[np.floating[Any]]
"""Some columns of all rows, shape (rows, columns)."""


class Mixing(Protocol):
    """How rows are made of updates."""

    name: str

    def rows(self, updates: int) -> int:
        """Return how many rows come of so many updates."""
        ...

    def matrix(self, pairs: Matrix, tolerate: int, chance: np.random.Generator) -> Matrix:
        """Return what each row takes of each update: shape (rows, updates), each row adds up to 1."""
        ...


@runtime_checkable
class ColumnRule(Protocol):
    """A rule that looks at each coordinate by itself."""

    name: str

    def least(self, tolerate: int) -> int:
        """Return the fewest rows among which so many may be spoilt."""
        ...

    def combine(self, rows: Rows, tolerate: int) -> Block:
        """Return one value a column, shape (columns,); `rows` may be used as scratch."""
        ...


@runtime_checkable
class WeighingRule(Protocol):
    """A rule that says how much of each row is taken."""

    name: str

    def least(self, tolerate: int) -> int:
        """Return the fewest rows among which so many may be spoilt."""
        ...

    def weigh(self, pairs: Matrix, tolerate: int) -> npt.NDArray[np.float64]:
        """Return how much of each row is taken, shape (rows,), from their inner products."""
        ...


Rule = ColumnRule | WeighingRule


def squared_distances(pairs: Matrix) -> Matrix:
    """Return |x_i - x_j|^2 from the inner products, shape (rows, rows); what rounding made negative is 0."""
    squares = pairs.diagonal()
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * pairs, 0)
    np.fill_diagonal(distances, 0)
    return distances


def distances_from(weights: npt.NDArray[np.float64], pairs: Matrix) -> npt.NDArray[np.float64]:
    """Return the distance of each row from sum_j weights_j x_j, shape (rows,)."""
    towards = pairs @ weights
    return np.sqrt(np.maximum(pairs.diagonal() - 2 * towards + weights @ towards, 0))
