"""top-k: the largest values alone, k = ceil(fraction * n) of them, each as an 8-bit level; the site keeps the rest.

    starts    where the values of each SPAN of columns begin among those sent, and their number at the end
    offsets   column of each value within its span, rising
    levels    of the values, in order of their columns; see `levels`
    scales    one float32 for 1024 of them

Stich, Cordonnier, Jaggi 2018, "Sparsified SGD with Memory", arXiv:1809.07599: what was not sent is added to the next
update of the site, so everything arrives in the end. A value takes 3 bytes, and spans let a reader of a few columns
find them without reading the others.
"""

from __future__ import annotations

import math

import numpy as np

from archipel.data.compression.levels import BLOCK, blocks_of, quantise, restore
from archipel.data.compression.port import Array, Take, Vector, size_of
from archipel.spec import Manifest, ShapeError, manifest_of
from archipel.spec.compression import CompressionKind

SPAN = 65_536
"""Columns whose places are told apart by 16 bits."""
_TOP = 127
_HINT = "see the site's log"


class TopK:
    """The largest share `fraction` of the values."""

    name: CompressionKind = "top-k"
    loses = True

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction

    def kept(self, count: int) -> int:
        """Return k for so many values, unmoved by rounding (7 % of 100 is 7, though 0.07 * 100 > 7)."""
        return min(count, max(1, math.ceil(self._fraction * count - 1e-9)))

    def layout(self, model: Manifest) -> Manifest:
        """See Codec."""
        model.uniform_dtype()
        count = size_of(model)
        kept = self.kept(count)
        return manifest_of(
            [
                ("starts", (_spans(count) + 1,), np.dtype(np.uint32)),
                ("scales", (blocks_of(kept),), np.dtype(np.float32)),
                ("offsets", (kept,), np.dtype(np.uint16)),
                ("levels", (kept,), np.dtype(np.uint8)),
            ]
        )

    def encode(self, vector: Vector, model: Manifest, rng: np.random.Generator) -> dict[str, Array]:
        """See Codec; of equal values the first are sent."""
        del model
        places = _largest(np.abs(vector), self.kept(vector.size))
        levels, scales = quantise(vector[places], _TOP, rng)
        starts = np.searchsorted(places, np.arange(_spans(vector.size) + 1) * SPAN).astype(np.uint32)
        return {"starts": starts, "scales": scales, "offsets": (places % SPAN).astype(np.uint16), "levels": levels}

    def decode(self, take: Take, model: Manifest, start: int, out: Vector) -> None:
        """See Codec."""
        count, stop = size_of(model), start + out.size
        out[:] = 0
        for span in range(start // SPAN, -(-stop // SPAN)):
            low, high = self._ends(take, span, count)
            places = self._places(take, span, (low, high), count)
            inside = slice(*np.searchsorted(places, (start, stop)))
            first, values = low + inside.start, np.empty(inside.stop - inside.start, out.dtype)
            last = first + values.size
            scales = take("scales", first // BLOCK, blocks_of(last))
            restore(take("levels", first, last), scales, _TOP, first, values)
            out[places[inside] - start] = values

    def _ends(self, take: Take, span: int, count: int) -> tuple[int, int]:
        """Return which of the values sent are in a span; spans that follow each other leave none out."""
        low, high = map(int, take("starts", span, span + 2))
        first, last = span == 0, span == _spans(count) - 1
        if low > high or high > self.kept(count) or (first and low) or (last and high < self.kept(count)):
            raise ShapeError(f"values {low} to {high} of {self.kept(count)} in span {span}", hint=_HINT)
        return low, high

    def _places(self, take: Take, span: int, ends: tuple[int, int], count: int) -> Array:
        places = take("offsets", *ends).astype(np.int64) + span * SPAN
        if (np.diff(places) <= 0).any():
            raise ShapeError(f"a column of span {span} is repeated or out of order", hint=_HINT)
        if places.size and int(places[-1]) >= count:
            raise ShapeError(f"a value for column {int(places[-1])} of {count}", hint=_HINT)
        return places


def _spans(count: int) -> int:
    return -(-count // SPAN)


def _largest(sizes: Vector, kept: int) -> Array:
    """Return the rising places of the `kept` largest, the first of those that are equal."""
    least = np.partition(sizes, sizes.size - kept)[sizes.size - kept]
    above = np.flatnonzero(sizes > least)
    equal = np.flatnonzero(sizes == least)[: kept - above.size]
    return np.sort(np.concatenate([above, equal]))
