"""The port of a codec, and how the tensors it wrote are read again, a few values at a time.

    tensors = codec.encode(vector, model, rng)
    codec.decode(taker(tensors), model, 0, out)     # the first out.size values, as they will be counted

`model` is the manifest of the vector's tensors. Encoding draws from `rng` alone: equal arguments, equal bytes. Decoding
draws nothing, reads only what lies in the columns asked for, and trusts nothing: levels, places and scales come from a
site that may lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from archipel.spec import Manifest, NonFiniteError, header_bytes
from archipel.spec.compression import CompressionKind

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.floating[Any]]
Take = Callable[[str, int, int], Array]
"""Values start..stop of the flattened tensor of a name."""


class Codec(Protocol):
    """One way to write an update."""

    name: CompressionKind
    """In a job file."""
    loses: bool
    """Is what comes out biased? Then a site keeps what was lost, and adds it to its next update."""

    def layout(self, model: Manifest) -> Manifest:
        """Return how the encoded tensors of any update of this model lie; a ShapeError where it has no one dtype."""
        ...

    def encode(self, vector: Vector, model: Manifest, rng: np.random.Generator) -> dict[str, Array]:
        """Return the tensors of a finite vector, in the order of `layout`."""
        ...

    def decode(self, take: Take, model: Manifest, start: int, out: Vector) -> None:
        """Fill `out` with the decoded values from column `start`.

        Raises:
            ShapeError: the tensors are nothing that `encode` gives.
            NonFiniteError: they hold NaN or infinity.
        """
        ...


def taker(tensors: Mapping[str, Array]) -> Take:
    """Return how tensors in memory are read."""
    return lambda name, start, stop: tensors[name].reshape(-1)[start:stop]


def decoded(codec: Codec, tensors: Mapping[str, Array], model: Manifest, like: Vector) -> Vector:
    """Return the whole vector that tensors in memory stand for, of the size and dtype of `like`."""
    out = np.empty_like(like)
    codec.decode(taker(tensors), model, 0, out)
    return out


def size_of(model: Manifest) -> int:
    """Return the number of values of a model."""
    return sum(tensor.count for tensor in model.tensors)


def encoded_bytes(codec: Codec | None, model: Manifest, plain_bytes: int) -> int:
    """Return the bytes of the file an update of this model is sent as; `plain_bytes` where no codec writes it."""
    if codec is None:
        return plain_bytes
    layout = codec.layout(model)
    return len(header_bytes(layout)) + layout.size_bytes


def finite(name: str, values: Array) -> Array:
    """Return `values`, or raise NonFiniteError."""
    if not np.isfinite(values).all():
        raise NonFiniteError(f"{name} hold NaN or infinity", hint="run the same archipel version at the site")
    return values
