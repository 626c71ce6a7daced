"""Weights between files of the spool and vectors in memory: read by mapping, written once while being hashed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from archipel.data.stores.spool import full_disk_named
from archipel.spec import (
    Blob,
    Manifest,
    Part,
    ShapeError,
    SpecError,
    StorageFullError,
    failpoint,
    header_bytes,
    manifest_of,
    parse_header,
    require_finite,
)
from archipel.spec.tensors import views
from archipel.tasks.port import Array, Sums, Vector, Weights

_PIECE_BYTES = 256 * 1024
"""Written and then hashed at a time: the hash finds it in the second-level cache (measured: a seventh less CPU)."""


class Blobs(Protocol):
    """Where blobs lie; `data.stores.spool.Spool` is one."""

    folder: Path

    def require(self, digest: str) -> Path:
        """Return the file of a whole blob."""
        ...

    def new_file(self, name: str) -> Path:
        """Return a path for a file to be written and adopted."""
        ...

    def settle(self, file: IO[bytes]) -> None:
        """Make a finished file outlive a crash, as far as that is this side's business."""
        ...

    def adopt(self, path: Path, digest: str) -> Blob:
        """Take over a finished, settled file."""
        ...

    def discard(self, path: Path) -> None:
        """Leave no bytes of a file that was not adopted."""
        ...


def open_tensors(blobs: Blobs, blob: Blob) -> tuple[Manifest, memoryview]:
    """Return a tensor file's manifest and its buffer, mapped read-only."""
    with blobs.require(blob.digest).open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    manifest, start = parse_header(data)
    if len(data) != start + manifest.size_bytes:
        raise SpecError(f"blob {blob.digest} is not a tensor file", hint="its length disagrees with its header")
    return manifest, data[start:]


def open_weights(blobs: Blobs, blob: Blob) -> Weights:
    """Return a model's weights, mapped read-only."""
    manifest, buffer = open_tensors(blobs, blob)
    return Weights(manifest=manifest, vector=np.frombuffer(buffer, dtype=manifest.uniform_dtype()))


def open_arrays(blobs: Blobs, blob: Blob) -> dict[str, Array]:
    """Return the named arrays of a tensor file, mapped read-only."""
    manifest, buffer = open_tensors(blobs, blob)
    return views(buffer, manifest)


def store_vector(blobs: Blobs, what: str, like: Manifest, vector: Vector) -> Part:
    """Write a vector laid out by `like`; a ShapeError or NonFiniteError names `what`."""
    dtype = like.uniform_dtype()
    if vector.shape != (like.size_bytes // dtype.itemsize,) or vector.dtype != dtype:
        found = f"{vector.shape} of {vector.dtype}"
        raise ShapeError(f"{what} is {found}, the model needs {like.size_bytes} bytes of {dtype}", hint="adapter error")
    require_finite(what, vector)
    data = np.ascontiguousarray(vector).view(np.uint8).data
    return Part(blob=_write(blobs, what, [header_bytes(like), data]), manifest=like.digest)


def store_sums(blobs: Blobs, what: str, sums: Sums) -> Part:
    """Write named float64 sums, by name, so that equal sums have equal bytes."""
    # np.require keeps a single number a single number; ascontiguousarray would make it a row of one.
    arrays = {name: np.require(sums[name], np.float64, "C") for name in sorted(sums)}
    for name, array in arrays.items():
        require_finite(f"{what} {name!r}", array)
    manifest = manifest_of((name, array.shape, array.dtype) for name, array in arrays.items())
    pieces = [header_bytes(manifest), *(array.tobytes() for array in arrays.values())]
    return Part(blob=_write(blobs, what, pieces), manifest=manifest.digest)


def store_words(blobs: Blobs, what: str, words: npt.NDArray[np.uint32]) -> Blob:
    """Write 32-bit words, little-endian and nothing else: a masked vector."""
    return _write(blobs, what, [np.ascontiguousarray(words, "<u4").view(np.uint8).data])


def store_file(blobs: Blobs, path: Path) -> Blob:
    """Take over a finished file (of the spool's file system) that someone else wrote."""
    with path.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        blobs.settle(file)
    return blobs.adopt(path, "sha256:" + digest)


@contextlib.contextmanager
def new_file(blobs: Blobs, what: str) -> Iterator[Path]:
    """Give a path to write and adopt inside the block; a failed file leaves no bytes on a disk that may be full."""
    path = blobs.new_file(what)
    try:
        with full_disk_named(path.parent), _limit_named():
            yield path
    finally:
        blobs.discard(path)


@contextlib.contextmanager
def _limit_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        hint = "free space on the site's disk, or raise file_mb of the site's sandbox"
        raise StorageFullError("a result is larger than the site lets one file be", hint=hint) from error


def _write(blobs: Blobs, what: str, pieces: Iterable[bytes | memoryview]) -> Blob:
    hashed: Any = hashlib.sha256()
    with new_file(blobs, what) as path:
        with path.open("wb") as file:
            for whole in pieces:
                view = memoryview(whole)
                for start in range(0, len(view), _PIECE_BYTES):
                    file.write(view[start : start + _PIECE_BYTES])
                    hashed.update(view[start : start + _PIECE_BYTES])
            file.flush()
            failpoint("site.worker.before_fsync")
            blobs.settle(file)
        return blobs.adopt(path, "sha256:" + hashed.hexdigest())
