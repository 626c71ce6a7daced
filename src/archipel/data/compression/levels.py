"""Stochastic quantisation: numbers as small whole levels, with one scale for each BLOCK of them.

    s     = max |x| / top                  of the block, rounded up to float32
    level = floor(x / s + u)               u uniform in [0, 1)
    x'    = s * level,   E x' = x,   |x' - x| < s

Alistarh et al. 2017, "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding", arXiv:1610.02132,
section 3.1, with the largest value in the place of the norm. Levels lie within plus or minus `top` and are written as
bytes, `top` added.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archipel.data.compression.port import Array, Vector, finite
from archipel.spec import NonFiniteError, ShapeError

BLOCK = 1024
"""Values that share a scale: it costs them 1/32 bit each."""
_PIECE = 64 * BLOCK
"""Values quantised at a time, in float64."""
_LARGEST = float(np.finfo(np.float32).max)
Bytes = npt.NDArray[np.uint8]
Scales = npt.NDArray[np.float32]


def blocks_of(count: int) -> int:
    """Return the number of scales of so many values."""
    return -(-count // BLOCK)


def quantise(vector: Vector, top: int, rng: np.random.Generator) -> tuple[Bytes, Scales]:
    """Return levels (n,) uint8 within 0..2 top, and scales (ceil(n / BLOCK),) float32, of a finite vector (n,).

    Raises:
        NonFiniteError: a value is beyond what float32 holds.
    """
    levels = np.empty(vector.size, np.uint8)
    scales = np.empty(blocks_of(vector.size), np.float32)
    for start in range(0, vector.size, _PIECE):
        piece = vector[start : start + _PIECE].astype(np.float64)
        found = _scales(piece, top)
        spread = np.repeat(found.astype(np.float64), BLOCK)[: piece.size]
        np.divide(piece, spread, out=piece, where=spread > 0)
        piece[spread == 0] = 0.0
        drawn = np.floor(piece + rng.random(piece.size, np.float32))
        levels[start : start + piece.size] = np.clip(drawn, -top, top) + top
        scales[start // BLOCK : start // BLOCK + found.size] = found
    return levels, scales


def restore(levels: Array, scales: Array, top: int, start: int, out: Vector) -> None:
    """Fill `out` with the numbers behind its levels; `start` is the place of the first, `scales` begins at its block.

    Raises:
        ShapeError: a level beyond 2 top, or a scale below zero.
        NonFiniteError: a scale is not finite.
    """
    if levels.size and int(levels.max()) > 2 * top:
        raise ShapeError(f"a level of {int(levels.max())}, {2 * top} is the highest", hint="see the site's log")
    finite("scales", scales)
    if scales.size and float(scales.min()) < 0:
        raise ShapeError(f"a scale of {float(scales.min())}", hint="see the site's log")
    _require_small(scales, top)
    first = start % BLOCK
    spread = np.repeat(scales, BLOCK)[first : first + out.size]
    np.multiply(levels.astype(np.float32) - np.float32(top), spread, out=out, casting="same_kind")


def _scales(piece: npt.NDArray[np.float64], top: int) -> Scales:
    padded = np.zeros(blocks_of(piece.size) * BLOCK)
    np.abs(piece, out=padded[: piece.size])
    wanted = padded.reshape(-1, BLOCK).max(axis=1) / top
    _require_small(wanted, top)
    scales: Scales = wanted.astype(np.float32)
    short = scales.astype(np.float64) < wanted
    scales[short] = np.nextafter(scales[short], np.float32(np.inf))
    return scales


def _require_small(scales: Array, top: int) -> None:
    largest = float(scales.max(initial=0.0))
    if largest * top > _LARGEST:
        raise NonFiniteError(f"a scale of {largest:g} is beyond float32", hint="lower the learning rate")
