"""What a round's updates come to, part by part, in blocks of columns: the port, and the weighted mean behind it.

    means = WeightedMeans(algorithm, ordered, dtype=model.dtype, count=model.count)
    means.read("delta", 0, 65536)      # the mean of these columns
    means.outliers()                   # once all columns were read

The robust rules stand behind the same port (`archipel.federated.robust`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from archipel.federated.contribution import Contribution, NonFiniteUpdateError, normalised
from archipel.federated.outliers import outliers_of, square_of
from archipel.federated.port import Algorithm, Block, Outlier
from archipel.federated.private_mean import SUM, PrivateMean
from archipel.federated.running_mean import RunningMean
from archipel.spec import NonFiniteError

BLOCK = 65_536
"""Columns of a block: three float32 blocks fill 768 KiB of a second-level cache."""


class Means(Protocol):
    """What is put in the place of the updates of a round."""

    @property
    def width(self) -> int:
        """Columns that are read at a time."""
        ...

    def read(self, part: str, start: int, stop: int) -> Block:
        """Return columns start..stop of a part, at most `width` of them, as a block of its own."""
        ...

    def outliers(self) -> tuple[Outlier, ...]:
        """Return the updates that are unlike the others, once all columns were read."""
        ...


class WeightedMeans:
    """The mean by the updates' weights, or with equal weights for the parts the algorithm wants so.

    An update whose norm is far beyond the others' is counted all the same, and named.
    """

    def __init__(
        self, algorithm: Algorithm, ordered: Sequence[Contribution], *, dtype: np.dtype[np.floating[Any]], count: int
    ) -> None:
        self._ordered = ordered
        self.width = min(BLOCK, count)
        self._shares = dict.fromkeys(algorithm.weighted, normalised([one.weight for one in ordered]))
        self._shares |= dict.fromkeys(algorithm.uniform, [1.0 / len(ordered)] * len(ordered))
        self._squares = {part: np.zeros(len(ordered)) for part in self._shares}
        self._mean = RunningMean(self.width, dtype)

    def read(self, part: str, start: int, stop: int) -> Block:
        """Return the mean of a part's columns; the order of operations is fixed.

        Raises:
            NonFiniteUpdateError: an update holds NaN or infinity; names the site.
            NonFiniteError: the mean does, though every update is finite.
        """
        self._mean.begin(stop - start)
        squares = self._squares[part]
        with np.errstate(over="ignore", invalid="ignore"):
            for place, (one, share) in enumerate(zip(self._ordered, self._shares[part], strict=True)):
                values = one.parts.read(part, start, stop, self._mean.scratch)
                squares[place] += square_of(values)
                self._mean.add(values, share)
            total = self._mean.take()
        if not np.isfinite(total).all():
            _name_culprit(self._ordered, part, start, stop, self._mean.scratch)
        return total

    def outliers(self) -> tuple[Outlier, ...]:
        """Return the updates of a norm far beyond the median; those without weight are not looked at."""
        counted = [place for place, one in enumerate(self._ordered) if one.weight > 0]
        sites = [self._ordered[place].site for place in counted]
        found: list[Outlier] = []
        for part, squares in self._squares.items():
            # Where a square overflows, the norm is as good as the largest number there is.
            norms = np.minimum(np.sqrt(squares[counted]), math.sqrt(sys.float_info.max))
            found += outliers_of(part, sites, norms, handled="counted")
        return tuple(found)


class PrivateMeans:
    """Sums in float64 over a fixed number, with noise: what [privacy.central] puts in the place of the mean.

    No update is named as unlike the others: that would be a release without noise.
    """

    def __init__(
        self,
        private: PrivateMean,
        algorithm: Algorithm,
        ordered: Sequence[Contribution],
        *,
        dtype: np.dtype[np.floating[Any]],
        count: int,
    ) -> None:
        assert not algorithm.uniform, "a part beside the delta would go without noise"
        self._private = private
        self._ordered = ordered
        self._dtype = dtype
        self.width = min(BLOCK, count)
        self._mean = RunningMean(self.width, SUM)

    def read(self, part: str, start: int, stop: int) -> Block:
        """Return a part's columns with noise.

        Raises:
            NonFiniteUpdateError: an update holds NaN or infinity; names the site.
            NonFiniteError: the sum does, though every update is finite.
        """
        self._mean.begin(stop - start)
        with np.errstate(over="ignore", invalid="ignore"):
            for one in self._ordered:
                self._mean.add(one.parts.read(part, start, stop, self._mean.scratch), self._private.share)
            total = self._mean.take()
        if not np.isfinite(total).all():
            _name_culprit(self._ordered, part, start, stop, self._mean.scratch)
        return self._private.noisy(total, start).astype(self._dtype)

    def outliers(self) -> tuple[Outlier, ...]:
        """Return none."""
        return ()


def _name_culprit(ordered: Sequence[Contribution], part: str, start: int, stop: int, scratch: Block) -> None:
    for one in ordered:
        if not np.isfinite(one.parts.read(part, start, stop, scratch)).all():
            raise NonFiniteUpdateError.of(one.site, part)
    raise NonFiniteError(
        f"the mean of part {part!r} overflows, though every update is finite",
        hint="lower the learning rate or set [federation.local] clip_norm",
    )
