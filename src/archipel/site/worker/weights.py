"""Weights between files of the spool and vectors in memory: mapped where they lie plain, checked and written."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from archipel.data.stores.files import READ_BYTES
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


class Blobs(Protocol):
    """Where blobs lie; `data.stores.spool.Spool` is one."""

    folder: Path

    def require(self, digest: str) -> Path:
        """Return the file of a whole blob, as it lies on the disk."""
        ...

    def view(self, digest: str) -> memoryview:
        """Return all bytes of a whole blob, mapped where that is possible."""
        ...

    def write(self, name: str, pieces: Iterable[bytes | memoryview], size_bytes: int) -> Blob:
        """Store a blob of so many bytes; where that fails, none of them stay."""
        ...

    def scratch(self, name: str) -> Path:
        """Return a path for a file that is not a blob yet."""
        ...

    def discard(self, path: Path) -> None:
        """Leave no bytes of a file that is not a blob."""
        ...


def open_tensors(blobs: Blobs, blob: Blob) -> tuple[Manifest, memoryview]:
    """Return a tensor file's manifest and its buffer, read-only."""
    data = blobs.view(blob.digest)
    manifest, start = parse_header(data)
    if len(data) != start + manifest.size_bytes:
        raise SpecError(f"blob {blob.digest} is not a tensor file", hint="its length disagrees with its header")
    return manifest, data[start:]


def open_weights(blobs: Blobs, blob: Blob) -> Weights:
    """Return a model's weights, read-only."""
    manifest, buffer = open_tensors(blobs, blob)
    return Weights(manifest=manifest, vector=np.frombuffer(buffer, dtype=manifest.uniform_dtype()))


def open_arrays(blobs: Blobs, blob: Blob) -> dict[str, Array]:
    """Return the named arrays of a tensor file, read-only."""
    manifest, buffer = open_tensors(blobs, blob)
    return views(buffer, manifest)


def store_vector(blobs: Blobs, what: str, like: Manifest, vector: Vector) -> Part:
    """Write a vector laid out by `like`; a ShapeError or NonFiniteError names `what`."""
    dtype = like.uniform_dtype()
    if vector.shape != (like.size_bytes // dtype.itemsize,) or vector.dtype != dtype:
        found = f"{vector.shape} of {vector.dtype}"
        raise ShapeError(f"{what} is {found}, the model needs {like.size_bytes} bytes of {dtype}", hint="adapter error")
    require_finite(what, vector)
    header, data = header_bytes(like), np.ascontiguousarray(vector).view(np.uint8).data
    return Part(blob=_write(blobs, what, [header, data], len(header) + len(data)), manifest=like.digest)


def store_sums(blobs: Blobs, what: str, sums: Sums) -> Part:
    """Write named float64 sums, by name, so that equal sums have equal bytes."""
    # np.require keeps a single number a single number; ascontiguousarray would make it a row of one.
    arrays = {name: np.require(sums[name], np.float64, "C") for name in sorted(sums)}
    for name, array in arrays.items():
        require_finite(f"{what} {name!r}", array)
    manifest = manifest_of((name, array.shape, array.dtype) for name, array in arrays.items())
    pieces = [header_bytes(manifest), *(array.tobytes() for array in arrays.values())]
    size_bytes = len(pieces[0]) + manifest.size_bytes
    return Part(blob=_write(blobs, what, pieces, size_bytes), manifest=manifest.digest)


def store_tensors(blobs: Blobs, what: str, tensors: Mapping[str, Array], stands_for: Manifest) -> Part:
    """Write named tensors in the order given: a compressed vector laid out by `stands_for`."""
    manifest = manifest_of((name, array.shape, array.dtype) for name, array in tensors.items())
    header = header_bytes(manifest)
    pieces = (np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in tensors.values())
    blob = _write(blobs, what, itertools.chain([header], pieces), len(header) + manifest.size_bytes)
    return Part(blob=blob, manifest=manifest.digest, stands_for=stands_for.digest)


def store_words(blobs: Blobs, what: str, words: npt.NDArray[np.uint32]) -> Blob:
    """Write 32-bit words, little-endian and nothing else: a masked vector."""
    data = np.ascontiguousarray(words, "<u4").view(np.uint8).data
    return _write(blobs, what, [data], len(data))


def store_file(blobs: Blobs, what: str, path: Path) -> Blob:
    """Store a finished file that someone else wrote."""
    with path.open("rb") as file:
        return _write(blobs, what, iter(partial(file.read, READ_BYTES), b""), path.stat().st_size)


@contextlib.contextmanager
def scratch_file(blobs: Blobs, what: str) -> Iterator[Path]:
    """Give a path to write inside the block; it is gone afterwards, also from a disk that may be full."""
    path = blobs.scratch(what)
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
        hint = "free space on the site's disk, or raise `disk` in [limits] of the site's policy"
        raise StorageFullError("a result is larger than the site lets one file be", hint=hint) from error


def _write(blobs: Blobs, what: str, pieces: Iterable[bytes | memoryview], size_bytes: int) -> Blob:
    with full_disk_named(blobs.folder), _limit_named():
        return blobs.write(what, _watched(pieces), size_bytes)


def _watched(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    yield from pieces
    failpoint("site.worker.before_fsync")
