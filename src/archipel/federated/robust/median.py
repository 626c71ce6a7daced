"""Median of each coordinate; of an even number of values, the mean of the middle two.

Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", arXiv:1803.01498, Definition 1.
"""

from __future__ import annotations

from archipel.federated.port import Block
from archipel.federated.robust.columns import middle_mean
from archipel.federated.robust.port import Rows


class Median:
    """The middle value."""

    name = "median"

    def least(self, tolerate: int) -> int:
        """Return 2 f + 1: most values must be honest."""
        return 2 * tolerate + 1

    def combine(self, rows: Rows, tolerate: int) -> Block:  # noqa: ARG002 - the port's signature
        """Return each column's median."""
        return middle_mean(rows, (len(rows) - 1) // 2)
