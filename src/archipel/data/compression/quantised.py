"""int8 and int4: every value as a level of 8 or 4 bits, rounded at random so that the mean of many is right.

    levels   n bytes; int4: two values a byte, the first in the lower half
    scales   one float32 for 1024 values

A site's update takes 0.251 or 0.126 of its bytes in float32. Nothing is kept at the site: what rounding does to one
update it undoes in others, on average.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from archipel.data.compression.levels import BLOCK, Bytes, blocks_of, quantise, restore
from archipel.data.compression.port import Array, Take, Vector, size_of
from archipel.spec import Manifest, manifest_of
from archipel.spec.compression import CompressionKind


class Quantised:
    """Levels of so many bits."""

    loses = False

    def __init__(self, bits: Literal[4, 8]) -> None:
        self.name: CompressionKind = "int4" if bits == 4 else "int8"
        self._each = 8 // bits
        self._top = 2 ** (bits - 1) - 1

    def layout(self, model: Manifest) -> Manifest:
        """See Codec."""
        model.uniform_dtype()
        count = size_of(model)
        levels = ("levels", (-(-count // self._each),), np.dtype(np.uint8))
        return manifest_of([levels, ("scales", (blocks_of(count),), np.dtype(np.float32))])

    def encode(self, vector: Vector, model: Manifest, rng: np.random.Generator) -> dict[str, Array]:
        """See Codec; a NonFiniteError where a value is beyond float32."""
        del model
        levels, scales = quantise(vector, self._top, rng)
        return {"levels": levels if self._each == 1 else _packed(levels), "scales": scales}

    def decode(self, take: Take, model: Manifest, start: int, out: Vector) -> None:
        """See Codec."""
        del model
        stop = start + out.size
        packed = take("levels", start // self._each, -(-stop // self._each))
        levels = packed if self._each == 1 else _unpacked(packed)[start % 2 :][: out.size]
        restore(levels, take("scales", start // BLOCK, blocks_of(stop)), self._top, start, out)

    def scaled(self, tensors: Mapping[str, Array], factor: float) -> dict[str, Array]:
        """Return tensors that stand for `factor` times the values."""
        return {**tensors, "scales": tensors["scales"] * np.float32(factor)}


def _packed(levels: Bytes) -> Bytes:
    even = np.zeros(levels.size + levels.size % 2, np.uint8)
    even[: levels.size] = levels
    packed: Bytes = even[::2] | np.left_shift(even[1::2], np.uint8(4))
    return packed


def _unpacked(packed: Array) -> Bytes:
    levels = np.empty(2 * packed.size, np.uint8)
    levels[::2], levels[1::2] = packed & 15, packed >> 4
    return levels
