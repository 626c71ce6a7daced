"""Stochastic quantisation: numbers as levels of 8 or 4 bits, with one scale for each BLOCK of them.

    s     = max |x| / top                  of the block, rounded up to float32; top = 127 or 7
    level = floor(x / s + u)               u uniform in [0, 1)
    x'    = s * level,   E x' = x,   |x' - x| < s

Alistarh et al. 2017, "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding", arXiv:1610.02132,
section 3.1, with the largest value in the place of the norm. Levels are written with `top` added; of 4 bits two share a
byte, the first in the lower half.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from archipel.data.compression.port import Array, Take, Vector, finite
from archipel.spec import NonFiniteError, ShapeError

BLOCK = 1024
"""Values that share a scale: it costs them 1/32 bit each."""
_PIECE = 64 * BLOCK
"""Values quantised at a time, in float64."""
_LARGEST = float(np.finfo(np.float32).max)
Bits = Literal[4, 8]
Bytes = npt.NDArray[np.uint8]
Scales = npt.NDArray[np.float32]
Shape = tuple[str, tuple[int, ...], np.dtype[np.generic]]


class Levels:
    """The two tensors that numbers are written as: "levels" uint8 and "scales" float32."""

    def __init__(self, bits: Bits) -> None:
        self._each = 8 // bits
        self._top = 2 ** (bits - 1) - 1

    def shapes(self, count: int) -> list[Shape]:
        """Return name, shape and dtype of the tensors of so many numbers."""
        levels = ("levels", (-(-count // self._each),), np.dtype(np.uint8))
        return [levels, ("scales", (_blocks(count),), np.dtype(np.float32))]

    def write(self, vector: Vector, rng: np.random.Generator) -> dict[str, Array]:
        """Return the tensors of a finite vector.

        Raises:
            NonFiniteError: a value is beyond what float32 holds.
        """
        levels = np.empty(vector.size, np.uint8)
        scales = np.empty(_blocks(vector.size), np.float32)
        for start in range(0, vector.size, _PIECE):
            piece = vector[start : start + _PIECE].astype(np.float64)
            found = self._scales(piece)
            spread = np.repeat(found.astype(np.float64), BLOCK)[: piece.size]
            np.divide(piece, spread, out=piece, where=spread > 0)
            piece[spread == 0] = 0.0
            drawn = np.floor(piece + rng.random(piece.size, np.float32))
            levels[start : start + piece.size] = np.clip(drawn, -self._top, self._top) + self._top
            scales[start // BLOCK : start // BLOCK + found.size] = found
        return {"levels": levels if self._each == 1 else _packed(levels), "scales": scales}

    def read(self, take: Take, start: int, out: Vector) -> None:
        """Fill `out` with the numbers from place `start`.

        Raises:
            ShapeError: a level beyond the highest, or a scale below zero.
            NonFiniteError: a scale is not finite, or its numbers would not be.
        """
        stop = start + out.size
        packed = take("levels", start // self._each, -(-stop // self._each))
        levels = packed if self._each == 1 else _unpacked(packed)[start % 2 :][: out.size]
        if levels.size and int(levels.max()) > 2 * self._top:
            raise ShapeError(
                f"a level of {int(levels.max())}, {2 * self._top} is the highest", hint="see the site's log"
            )
        scales = finite("scales", take("scales", start // BLOCK, _blocks(stop)))
        if scales.size and float(scales.min()) < 0:
            raise ShapeError(f"a scale of {float(scales.min())}", hint="see the site's log")
        self._require_small(scales)
        spread = np.repeat(scales, BLOCK)[start % BLOCK :][: out.size]
        np.multiply(levels.astype(np.float32) - np.float32(self._top), spread, out=out, casting="same_kind")

    def _scales(self, piece: npt.NDArray[np.float64]) -> Scales:
        padded = np.zeros(_blocks(piece.size) * BLOCK)
        np.abs(piece, out=padded[: piece.size])
        wanted = padded.reshape(-1, BLOCK).max(axis=1) / self._top
        self._require_small(wanted)
        scales: Scales = wanted.astype(np.float32)
        short = scales.astype(np.float64) < wanted
        scales[short] = np.nextafter(scales[short], np.float32(np.inf))
        return scales

    def _require_small(self, scales: Array) -> None:
        largest = float(scales.max(initial=0.0))
        if largest * self._top > _LARGEST:
            raise NonFiniteError(f"a scale of {largest:g} is beyond float32", hint="lower the learning rate")


def _blocks(count: int) -> int:
    return -(-count // BLOCK)


def _packed(levels: Bytes) -> Bytes:
    even = np.zeros(levels.size + levels.size % 2, np.uint8)
    even[: levels.size] = levels
    packed: Bytes = even[::2] | np.left_shift(even[1::2], np.uint8(4))
    return packed


def _unpacked(packed: Array) -> Bytes:
    levels = np.empty(2 * packed.size, np.uint8)
    levels[::2], levels[1::2] = packed & 15, packed >> 4
    return levels
