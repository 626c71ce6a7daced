"""int8 and int4: every value as a level of 8 or 4 bits, rounded at random so that the mean of many is right.

A float32 update takes 0.251 or 0.126 of its bytes. Nothing is kept at the site: what rounding does to one update it
undoes in others, on average.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from archipel.data.compression.levels import Bits, Levels
from archipel.data.compression.port import Array, Take, Vector, size_of
from archipel.spec import Manifest, manifest_of
from archipel.spec.compression import CompressionKind


class Quantised:
    """Levels of so many bits."""

    loses = False

    def __init__(self, bits: Bits) -> None:
        self.name: CompressionKind = "int4" if bits == 4 else "int8"
        self._levels = Levels(bits)

    def layout(self, model: Manifest) -> Manifest:
        """See Codec."""
        model.uniform_dtype()
        return manifest_of(self._levels.shapes(size_of(model)))

    def encode(self, vector: Vector, model: Manifest, rng: np.random.Generator) -> dict[str, Array]:
        """See Codec; a NonFiniteError where a value is beyond float32."""
        del model
        return self._levels.write(vector, rng)

    def decode(self, take: Take, model: Manifest, start: int, out: Vector) -> None:
        """See Codec."""
        del model
        self._levels.read(take, start, out)

    def scaled(self, tensors: Mapping[str, Array], factor: float) -> dict[str, Array]:
        """Return tensors that stand for `factor` times the values."""
        return {**tensors, "scales": tensors["scales"] * np.float32(factor)}
