"""What an agent and its worker process say to each other over the worker's stdin and stdout.

A frame is a length (4 bytes, big-endian) and the canonical JSON of one value. Never pickles; tensors travel as blobs
on the worker's bench, which both sides open.

    agent                         worker
     │ Begin ───────────────────────▶ │   once: who the site is, where its data and its bench are, how it is confined
     │ ◀─────────────────────── Ready │
     │ Execute ─────────────────────▶ │   a task, and the run's state so far
     │ ◀─────────────────────── Moved │   share of the work done, as it changes
     │ Abandon ─────────────────────▶ │   the work is no longer wanted (any time)
     │ ◀──────────────── Done, Failed │   one of them ends the Execute
     │ (end of stdin) ──────────────▶ │   the worker ends at once
"""

from __future__ import annotations

from typing import IO, Any

import msgspec

from archipel.site.sandbox import Confinement
from archipel.spec import Blob, RoundTask, SpecError, Update, Value, encode
from archipel.spec.wire import Failure

MOST_BYTES = 64 * 1024 * 1024
PREFIX_BYTES = 4


class Begin(Value, frozen=True, kw_only=True, tag_field="type", tag="begin/1"):
    """First frame to a worker."""

    site: str
    datasets: dict[str, str]
    """Data set name → path."""
    bench: str
    """The worker's own folder; see bench.py."""
    confinement: Confinement | None = None
    """What it closes behind itself before anything else; None: nothing."""


class Execute(Value, frozen=True, kw_only=True, tag_field="type", tag="execute/1"):
    """Do this task."""

    task: RoundTask
    state: dict[str, Blob] = msgspec.field(default_factory=dict)
    """The run's newest state from earlier rounds."""
    noise: bytes | None = None
    """Secret that this task's noise follows from, where the job asks for noise at the site."""


class Abandon(Value, frozen=True, kw_only=True, tag_field="type", tag="abandon/1"):
    """Stop the work at hand; Failed answers it."""


class Ready(Value, frozen=True, kw_only=True, tag_field="type", tag="ready/1"):
    """The worker listens, and is confined."""


class Moved(Value, frozen=True, kw_only=True, tag_field="type", tag="moved/1"):
    """Progress."""

    done: float


class Done(Value, frozen=True, kw_only=True, tag_field="type", tag="done/1"):
    """The answer, and the state it leads to: of blobs that were given to it, and of its results, by `bench.place`."""

    update: Update
    state: dict[str, Blob] = msgspec.field(default_factory=dict)


class Failed(Value, frozen=True, kw_only=True, tag_field="type", tag="failed/1"):
    """The work ended in an error, or was abandoned (failure None)."""

    failure: Failure | None = None


ToWorker = Begin | Execute | Abandon
FromWorker = Ready | Moved | Done | Failed
_READERS = {"worker": msgspec.json.Decoder(ToWorker), "agent": msgspec.json.Decoder(FromWorker)}


def frame(value: ToWorker | FromWorker) -> bytes:
    """Return the bytes of one frame."""
    body = encode(value)
    return len(body).to_bytes(PREFIX_BYTES, "big") + body


def length_of(prefix: bytes) -> int:
    """Return the length a prefix announces; a SpecError if no frame is that long."""
    size = int.from_bytes(prefix, "big")
    if size > MOST_BYTES:
        raise SpecError(f"a frame of {size} bytes", hint="something else wrote to the worker's stdout; see the log")
    return size


def value_of(body: bytes, reader: str) -> Any:
    """Return the value in a frame read by the "worker" or the "agent"."""
    try:
        return _READERS[reader].decode(body)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        hint = "the agent and its worker are of different archipel versions: restart the agent"
        raise SpecError(f"not a frame: {error}", hint=hint) from error


def read_frame(stream: IO[bytes], reader: str) -> Any:
    """Read one frame from a blocking stream; None at its end."""
    prefix = stream.read(PREFIX_BYTES)
    if len(prefix) < PREFIX_BYTES:
        return None
    size = length_of(prefix)
    body = stream.read(size)
    return value_of(body, reader) if len(body) == size else None
