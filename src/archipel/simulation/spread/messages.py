"""What is said between a simulation and its processes. Arrays of a plan travel as bytes; weights and deltas do not.

On one machine weights and deltas lie in a file that all processes map (`Vectors`), on a cluster in its object store: a
message is small whatever the model's size.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np

from archipel import spec
from archipel.spec import ArchipelError, JobSpec, Manifest
from archipel.tasks.port import LocalPlan

Message = TypeVar("Message")


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """All that a process needs to know of the simulation; said once, first."""

    job: JobSpec
    folder: str
    """Where the task's code is."""
    data: str
    """The data set."""
    digest: str
    """Of its rows, which must be the same wherever they are read."""
    executor: str
    """By which the process computes its pieces; see `tasks.executors`."""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Some neighbouring clients of a cohort."""

    number: int
    manifest: Manifest
    """Of the weights."""
    plans: tuple[LocalPlan, ...]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of a client beside its delta; as in `tasks.port.Trained`."""

    examples: int
    steps: int
    loss_sum: float
    loss_examples: int


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error of the tree, on its way to the process that raises it."""

    error: str
    """Class name, such as "NonFiniteError"."""
    message: str
    hint: str

    @classmethod
    def of(cls, error: ArchipelError) -> Failure:
        """Describe `error`."""
        return cls(error=type(error).__name__, message=error.message, hint=error.hint)

    def again(self) -> ArchipelError:
        """Return the error, to be raised here."""
        kind: type[ArchipelError] = getattr(spec, self.error, ArchipelError)
        return kind(self.message, hint=self.hint)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a piece came to: its first clients' figures, all of them where nothing failed."""

    figures: tuple[Figures, ...]
    failure: Failure | None = None


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """The mapped file: row 0 holds the weights of the round, the others deltas on their way."""

    path: str
    window: int
    """Pieces that have room for their deltas."""
    size: int
    """Clients of a piece at most."""
    elements: int
    dtype: str

    @property
    def rows(self) -> int:
        """How many vectors the file holds."""
        return 1 + self.window * self.size

    def deltas_of(self, piece: Piece) -> slice:
        """Say which rows the deltas of a piece go to."""
        first = 1 + piece.number % self.window * self.size
        return slice(first, first + len(piece.plans))

    def map(self) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
        """Map the file: shape (rows, elements). What one process writes, the others read."""
        return np.memmap(self.path, np.dtype(self.dtype), mode="r+", shape=(self.rows, self.elements))


def to_bytes(message: object) -> bytes:
    """Encode any of these messages."""
    return msgspec.msgpack.encode(message, enc_hook=_from_array)


def from_bytes(body: bytes, kind: type[Message]) -> Message:
    """Decode a message of this kind."""
    return msgspec.msgpack.decode(body, type=kind, dec_hook=_to_array)


def _from_array(value: object) -> tuple[str, bytes]:
    if not isinstance(value, np.ndarray):
        raise NotImplementedError(f"no message holds a {type(value).__name__}")
    return value.dtype.str, value.tobytes()


def _to_array(_kind: type, value: Any) -> np.ndarray[Any, Any]:
    dtype, body = value
    return np.frombuffer(bytearray(body), np.dtype(dtype))
