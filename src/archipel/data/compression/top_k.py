"""top-k: the largest values alone, k = ceil(fraction * n) of them, each as a level; the site keeps the rest.

    starts   for each SPAN of columns how many values lie before it, and at the end k
    bits     one bit a column, the highest of a byte first: is its value among those sent?
    levels   of the values, in order of their columns, 8 or 4 bits each; see `levels`
    scales   one float32 for 1024 of them

Stich, Cordonnier, Jaggi 2018, "Sparsified SGD with Memory", arXiv:1809.07599: what was not sent is added to the next
update of the site, so everything arrives in the end. A float32 update takes 1/32 + fraction * bits/32 of its bytes; for
more than a sixteenth of the values, bits take less than numbers of columns, and no bit can name a column twice, or one
that is not there.
"""

from __future__ import annotations

import math

import numpy as np

from archipel.data.compression.levels import Bits, Levels
from archipel.data.compression.port import Array, Take, Vector, size_of
from archipel.spec import Manifest, ShapeError, manifest_of
from archipel.spec.compression import CompressionKind

SPAN = 65_536
"""Columns whose bits are read together: who wants a few of them need not count from the first."""
_HINT = "see the site's log"


class TopK:
    """The largest share `fraction` of the values."""

    name: CompressionKind = "top-k"
    loses = True

    def __init__(self, fraction: float, bits: Bits = 8) -> None:
        self._fraction = fraction
        self._levels = Levels(bits)

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
                ("starts", (-(-count // SPAN) + 1,), np.dtype(np.uint32)),
                ("bits", (-(-count // 8),), np.dtype(np.uint8)),
                *self._levels.shapes(kept),
            ]
        )

    def encode(self, vector: Vector, model: Manifest, rng: np.random.Generator) -> dict[str, Array]:
        """See Codec; of equal values the first are sent."""
        del model
        sent = _largest(np.abs(vector), self.kept(vector.size))
        counts = np.add.reduceat(sent, np.arange(0, sent.size, SPAN), dtype=np.uint32)
        starts = np.concatenate([np.zeros(1, np.uint32), np.cumsum(counts, dtype=np.uint32)])
        return {"starts": starts, "bits": np.packbits(sent), **self._levels.write(vector[sent], rng)}

    def decode(self, take: Take, model: Manifest, start: int, out: Vector) -> None:
        """See Codec."""
        count = size_of(model)
        for span in range(start // SPAN, -(-(start + out.size) // SPAN)):
            low, high = max(start, span * SPAN), min(start + out.size, (span + 1) * SPAN)
            self._restore(
                take, span, slice(low - span * SPAN, high - span * SPAN), count, out[low - start : high - start]
            )

    def _restore(self, take: Take, span: int, columns: slice, count: int, out: Vector) -> None:
        """Fill `out` with these columns of a span."""
        sent, first = self._sent(take, span, count)
        first += int(np.count_nonzero(sent[: columns.start]))
        chosen = sent[columns]
        values = np.empty(np.count_nonzero(chosen), out.dtype)
        self._levels.read(take, first, values)
        out[:] = 0
        out[chosen] = values

    def _sent(self, take: Take, span: int, count: int) -> tuple[Array, int]:
        """Return for each column of a span whether it was sent, and how many were before; no span leaves any out."""
        size, kept = min(SPAN, count - span * SPAN), self.kept(count)
        bits = np.unpackbits(take("bits", span * SPAN // 8, -(-(span * SPAN + size) // 8))).astype(bool)
        low, high = map(int, take("starts", span, span + 2))
        is_first, is_last = span == 0, span == -(-count // SPAN) - 1
        odd = (is_first and low) or (high != kept if is_last else high > kept)
        if odd or bits[size:].any() or np.count_nonzero(bits) != high - low:
            raise ShapeError(f"columns {span * SPAN} on: values {low} to {high} of {kept} do not fit", hint=_HINT)
        return bits[:size], low


def _largest(sizes: Vector, kept: int) -> Array:
    """Return for each value whether it is among the `kept` largest, the first of those that are equal."""
    least = np.partition(sizes, sizes.size - kept)[sizes.size - kept]
    chosen: Array = sizes > least
    chosen[np.flatnonzero(sizes == least)[: kept - np.count_nonzero(chosen)]] = True
    return chosen
