"""Trimmed mean: of each coordinate, the f largest and the f smallest values are left out.

Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", arXiv:1803.01498, Definition 2,
with beta n = f.
"""

from __future__ import annotations

from archipel.federated.port import Block
from archipel.federated.robust.columns import middle_mean
from archipel.federated.robust.port import Rows


class TrimmedMean:
    """The mean without the ends."""

    name = "trimmed-mean"

    def least(self, tolerate: int) -> int:
        """Return 2 f + 1: something must be left."""
        return 2 * tolerate + 1

    def combine(self, rows: Rows, tolerate: int) -> Block:
        """Return each column's mean without its f largest and f smallest values."""
        return middle_mean(rows, tolerate)
