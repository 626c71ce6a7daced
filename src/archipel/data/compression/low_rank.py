"""low-rank: a matrix of m x n as two factors of r columns, P Q^T; the site keeps the rest.

    left/NAME    (m, r) float32, orthonormal columns
    right/NAME   (n, r) float32
    whole/NAME   a tensor of one dimension, or one that two factors would not make smaller

Vogels, Karimireddy, Jaggi 2019, "PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization",
arXiv:1905.13727, Algorithm 1: power iteration from a random start, here STEPS of them and afresh each round, so that
nothing but what was lost is kept. Of tensors with more dimensions, the first is m.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from archipel.data.compression.port import Array, Take, Vector, finite
from archipel.spec import Manifest, TensorSpec, manifest_of
from archipel.spec.compression import CompressionKind

STEPS = 2
_FLOAT = np.dtype(np.float32)


class LowRank:
    """Factors of `rank` columns."""

    name: CompressionKind = "low-rank"
    loses = True

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def layout(self, model: Manifest) -> Manifest:
        """See Codec."""
        model.uniform_dtype()
        shapes: list[tuple[str, tuple[int, ...], np.dtype[np.float32]]] = []
        for tensor in model.tensors:
            if self._is_split(tensor):
                rows, columns = _sides(tensor)
                shapes.append((f"left/{tensor.name}", (rows, self._rank), _FLOAT))
                shapes.append((f"right/{tensor.name}", (columns, self._rank), _FLOAT))
            else:
                shapes.append((f"whole/{tensor.name}", tensor.shape, _FLOAT))
        return manifest_of(shapes)

    def encode(self, vector: Vector, model: Manifest, rng: np.random.Generator) -> dict[str, Array]:
        """See Codec; a NonFiniteError where a value is beyond float32."""
        encoded: dict[str, Array] = {}
        with np.errstate(over="ignore"):
            single = finite("values", vector.astype(np.float32))
        for tensor, first in _placed(model):
            values = single[first : first + tensor.count]
            if self._is_split(tensor):
                left, right = _factors(values.reshape(_sides(tensor)), self._rank, rng)
                encoded[f"left/{tensor.name}"], encoded[f"right/{tensor.name}"] = left, right
            else:
                encoded[f"whole/{tensor.name}"] = values.reshape(tensor.shape)
        return encoded

    def decode(self, take: Take, model: Manifest, start: int, out: Vector) -> None:
        """See Codec; sums over the rank in order, whose bits no library's kernel chooses."""
        stop = start + out.size
        for tensor, first in _placed(model):
            low, high = max(start, first), min(stop, first + tensor.count)
            if low < high:
                into = out[low - start : high - start]
                if self._is_split(tensor):
                    self._multiply(take, tensor, low - first, into)
                else:
                    into[:] = finite("values", take(f"whole/{tensor.name}", low - first, high - first))

    def _is_split(self, tensor: TensorSpec) -> bool:
        rows, columns = _sides(tensor)
        return len(tensor.shape) > 1 and self._rank * (rows + columns) < rows * columns

    def _multiply(self, take: Take, tensor: TensorSpec, start: int, out: Vector) -> None:
        rank, (_, columns) = self._rank, _sides(tensor)
        top, bottom = start // columns, -(-(start + out.size) // columns)
        left = finite("factors", take(f"left/{tensor.name}", top * rank, bottom * rank)).reshape(-1, rank)
        right = finite("factors", take(f"right/{tensor.name}", 0, columns * rank)).reshape(-1, rank)
        product = np.zeros((bottom - top, columns), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # who counts the values asks whether they are finite
            for place in range(rank):
                product += left[:, place, None] * right[None, :, place]
        skipped = start - top * columns
        out[:] = product.reshape(-1)[skipped : skipped + out.size]


def _sides(tensor: TensorSpec) -> tuple[int, int]:
    return (tensor.shape[0], math.prod(tensor.shape[1:])) if tensor.shape else (1, 1)


def _placed(model: Manifest) -> Iterator[tuple[TensorSpec, int]]:
    """Yield each tensor with the column at which it begins."""
    first = 0
    for tensor in model.tensors:
        yield tensor, first
        first += tensor.count


def _factors(matrix: Vector, rank: int, rng: np.random.Generator) -> tuple[Array, Array]:
    wide = matrix.astype(np.float64)
    right = rng.standard_normal((matrix.shape[1], rank))
    for _ in range(STEPS):
        left, _ = np.linalg.qr(wide @ right)
        right = wide.T @ left
    return left.astype(np.float32), finite("factors", right.astype(np.float32))
