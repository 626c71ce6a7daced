"""What a robust rule makes of a round's updates, part by part, in blocks of columns: two passes over the files.

    1. look     every update's norm, and inner products where the rule or the mixing asks for them
    2. filter   NaN or infinity: left out, and one lie less is tolerated; without a trained row: no voice;
                a norm far beyond the median: shortened to FAR times the median
    3. decide   from the inner products alone: the mixing's matrix, a weighing rule's shares
    4. read     column by column: a weighted mean by those shares, or the mixed rows through a column rule

Each part (SCAFFOLD has two) is aggregated by itself; a site whose one part is not finite is left out of all. All is
float64 but the columns, on one thread of BLAS: the same updates give the same bits on the same kind of machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from archipel.federated.contribution import Contribution, NonFiniteUpdateError, normalised
from archipel.federated.means import BLOCK
from archipel.federated.outliers import limit_of, outliers_of, square_of
from archipel.federated.port import Block, Outlier
from archipel.federated.robust.port import ColumnRule, Matrix
from archipel.federated.robust.robust import Robust
from archipel.federated.running_mean import RunningMean

STACK_BYTES = 2 * 1024 * 1024
"""Memory for some columns of all updates: they stay in the caches, whatever the number of updates."""
_BUCKETS = 1
"""Draws of mixings, apart from those of cohorts."""
Seen = npt.NDArray[np.float64]
"""Inner products of a part's updates, shape (updates, updates); squares of norms alone, shape (updates,)."""


class Decision(msgspec.Struct, frozen=True):
    """What is done with the updates of one part."""

    scales: npt.NDArray[np.float64]
    """By which each update is shortened, shape (updates,)."""
    mixed: Matrix | None
    """What each row takes of each update; None: rows are the updates."""
    shares: npt.NDArray[np.float64] | None
    """How much of each update is in the result; None: a column rule decides for each column."""


class RobustMeans:
    """The robust aggregate of each part; the port is `archipel.federated.means.Means`."""

    def __init__(
        self,
        robust: Robust,
        step: int,
        ordered: Sequence[Contribution],
        parts: Sequence[str],
        *,
        dtype: np.dtype[np.floating[Any]],
        count: int,
    ) -> None:
        """Look at all updates, and decide.

        Raises:
            NonFiniteUpdateError: more of them hold NaN or infinity than are tolerated; names the first.
            SpecError: too few of them for the rule.
            TaskError: none of them has weight.
        """
        self._count, self._dtype = count, dtype
        self._outliers: list[Outlier] = []
        self._robust, self._step = robust, step
        self._blas = ThreadpoolController()
        with self._blas.limit(limits=1):
            seen = {part: self._look(ordered, part, pairs=robust.needs_pairs) for part in parts}
            voices = self._voices(ordered, seen)
            self._ordered = [ordered[place] for place in voices]
            self._decisions = {
                part: self._decide(part, found[np.ix_(*[voices] * found.ndim)]) for part, found in seen.items()
            }
        weighs = not isinstance(robust.rule, ColumnRule)
        self.width = min(count, BLOCK) if weighs else self._width(len(voices), dtype.itemsize)
        self._mean = RunningMean(self.width, dtype) if weighs else None
        self._stack = np.empty(0 if weighs else len(voices) * self.width, dtype)

    def outliers(self) -> tuple[Outlier, ...]:
        """Return the updates that were left out or shortened, one for each part."""
        return tuple(self._outliers)

    def read(self, part: str, start: int, stop: int) -> Block:
        """Return the aggregate of a part's columns."""
        decision = self._decisions[part]
        if decision.shares is not None:
            return self._weighted(part, decision.shares, start, stop)
        return self._by_column(part, decision, start, stop)

    # ---- look, filter, decide ----------------------------------------------------------------------------------

    def _look(self, ordered: Sequence[Contribution], part: str, *, pairs: bool) -> Seen:
        if not pairs:
            return self._norms(ordered, part)
        seen = np.zeros((len(ordered), len(ordered)))
        width = self._width(len(ordered), 8)
        rows, scratch = np.empty((len(ordered), width)), np.empty(width, self._dtype)
        for start in range(0, self._count, width):
            stop = min(start + width, self._count)
            some = rows[:, : stop - start]
            for row, one in zip(some, ordered, strict=True):
                row[:] = one.parts.read(part, start, stop, scratch)
            with np.errstate(over="ignore", invalid="ignore"):
                seen += some @ some.T
        return seen

    def _norms(self, ordered: Sequence[Contribution], part: str) -> Seen:
        seen, scratch = np.zeros(len(ordered)), np.empty(min(BLOCK, self._count), self._dtype)
        for place, one in enumerate(ordered):
            for start in range(0, self._count, BLOCK):
                stop = min(start + BLOCK, self._count)
                seen[place] += square_of(one.parts.read(part, start, stop, scratch))
        return seen

    def _voices(self, ordered: Sequence[Contribution], seen: Mapping[str, Seen]) -> list[int]:
        """Return the places of the updates that are heard; from here on, fewer of them may lie."""
        unfit = {part: ~np.isfinite(_squares(found)) for part, found in seen.items()}
        left_out = [place for place in range(len(ordered)) if any(bad[place] for bad in unfit.values())]
        for place in left_out:
            site, part = ordered[place].site, next(part for part, bad in unfit.items() if bad[place])
            if len(left_out) > self._robust.tolerate:
                raise NonFiniteUpdateError.of(site, part)
            self._outliers.append(Outlier(site=site, part=part, norm=None, median=None, handled="left out"))
        heard = [place for place, one in enumerate(ordered) if place not in left_out]
        normalised([ordered[place].weight for place in heard])
        heard = [place for place in heard if ordered[place].weight > 0]
        self._robust.require(len(heard) + len(left_out))
        self._tolerate = self._robust.tolerate - len(left_out)
        return heard

    def _decide(self, part: str, seen: Seen) -> Decision:
        rule, mixing = self._robust.rule, self._robust.mixing
        norms = np.sqrt(_squares(seen))
        sites = [one.site for one in self._ordered]
        self._outliers += outliers_of(part, sites, norms, handled="shortened")
        limit = limit_of(norms)
        scales = np.divide(limit, norms, out=np.ones(len(norms)), where=norms > limit)
        if seen.ndim == 1:
            return Decision(scales, None, None)
        pairs, mixed = seen * scales[:, None] * scales[None, :], None
        if mixing is not None:
            chance = np.random.default_rng((self._robust.seed, self._step, _BUCKETS))
            mixed = mixing.matrix(pairs, self._tolerate, chance)
            pairs = mixed @ pairs @ mixed.T
        if isinstance(rule, ColumnRule):
            return Decision(scales, mixed, None)
        shares = rule.weigh(pairs, self._tolerate)
        return Decision(scales, mixed, scales * (shares if mixed is None else shares @ mixed))

    def _width(self, updates: int, itemsize: int) -> int:
        return max(1, min(self._count, BLOCK, STACK_BYTES // (updates * itemsize)))

    # ---- read --------------------------------------------------------------------------------------------------

    def _weighted(self, part: str, shares: npt.NDArray[np.float64], start: int, stop: int) -> Block:
        assert self._mean is not None
        self._mean.begin(stop - start)
        for one, share in zip(self._ordered, shares, strict=True):
            if share:
                self._mean.add(one.parts.read(part, start, stop, self._mean.scratch), float(share))
        return self._mean.take() if shares.any() else np.zeros(stop - start, self._dtype)

    def _by_column(self, part: str, decision: Decision, start: int, stop: int) -> Block:
        rule = self._robust.rule
        assert isinstance(rule, ColumnRule)
        size = stop - start
        rows = self._stack[: len(self._ordered) * size].reshape(-1, size)
        for row, one, scale in zip(rows, self._ordered, decision.scales, strict=True):
            row[:] = one.parts.read(part, start, stop, row)
            if scale < 1:
                np.multiply(row, self._dtype.type(scale), out=row)
        if decision.mixed is not None:
            with self._blas.limit(limits=1):
                rows = decision.mixed.astype(self._dtype) @ rows
        return rule.combine(rows, self._tolerate)


def _squares(seen: Seen) -> npt.NDArray[np.float64]:
    """Return the squares of the norms, shape (updates,)."""
    return seen if seen.ndim == 1 else seen.diagonal()
