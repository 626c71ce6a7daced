"""Named vectors of equal length, read and written in blocks of columns: from arrays or from tensor files.

A model of any size is aggregated in a few blocks of memory, because nobody here asks for a whole vector:

    reader.read("delta", 0, 65536, scratch)    # the values; `scratch` may have been used to hold them
    writer.write("model", 0, values)
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from archipel.data.stores.files import Draft
from archipel.federated.port import Block
from archipel.spec import Manifest, ShapeError, SpecError, header_bytes
from archipel.spec.tensors import NUMPY_OF, Array, read_header

WORKING: dict[str, np.dtype[np.floating[Any]]] = {"f2": np.dtype("<f4"), "f4": np.dtype("<f4"), "f8": np.dtype("<f8")}
"""Stored dtype → the dtype its arithmetic is done in."""


class BlockReader(Protocol):
    """Vectors of one length."""

    @property
    def count(self) -> int:
        """Elements of each vector."""
        ...

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """Working dtype: that of the blocks."""
        ...

    def read(self, name: str, start: int, stop: int, scratch: Block) -> Block:
        """Return columns start..stop of vector `name`: a view, or `scratch[: stop - start]` filled."""
        ...


class BlockWriter(Protocol):
    """Where vectors of one length go."""

    def write(self, name: str, start: int, values: Block) -> None:
        """Put `values` at column `start` of vector `name`."""
        ...


class ArrayBlocks:
    """Vectors in memory, to be read or written."""

    def __init__(self, vectors: Mapping[str, Block]) -> None:
        self._vectors = vectors
        sizes = {(vector.size, vector.dtype) for vector in vectors.values()}
        if len(sizes) != 1 or any(vector.ndim != 1 for vector in vectors.values()):
            raise ShapeError(f"vectors of one length and dtype needed, found {sizes}", hint="flatten them first")
        [(self.count, dtype)] = sizes
        self.dtype = working_dtype(dtype)

    def read(self, name: str, start: int, stop: int, scratch: Block) -> Block:
        """Return a view, or the converted values."""
        values = self._vectors[name][start:stop]
        if values.dtype == scratch.dtype:
            return values
        scratch[: stop - start] = values
        return scratch[: stop - start]

    def write(self, name: str, start: int, values: Block) -> None:
        """Copy `values` in."""
        self._vectors[name][start : start + values.size] = values


class OpenedTensors:
    """A tensor file, read in pieces; a context manager that closes it.

    Read, not mapped: mapping would be 1.4 times as fast, but a bad sector or a cut file would then kill the process
    (SIGBUS) where a read raises, and mapped pages count as this process's memory.

    `opening` opens the file, as `Spool.open` does. `keep` holds it open between blocks (faster); otherwise each block
    opens it, because a process may hold fewer files open than a large cohort sends.
    """

    def __init__(self, opening: Callable[[], io.RawIOBase], *, keep: bool = True) -> None:
        self._opening = opening
        self._file: io.RawIOBase | None = opening()
        try:
            self.manifest, self._start = read_manifest(self._file)
            self._settle()
        except BaseException:
            self._close()
            raise
        if not keep:
            self._close()

    def take(self, name: str, start: int, stop: int) -> Array:
        """Return values start..stop of the flattened tensor of that name."""
        tensor = next(one for one in self.manifest.tensors if one.name == name)
        dtype = NUMPY_OF[tensor.dtype]
        values = np.empty(stop - start, dtype)
        self._fill(values, tensor.offset + start * dtype.itemsize)
        return values

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _settle(self) -> None:
        """Look at the manifest; an error closes the file."""

    def _fill(self, raw: Array, offset: int) -> None:
        """Fill `raw` with the bytes from `offset` of the buffer."""
        if self._file is None:
            with self._opening() as file:
                _fill(file, raw, self._start + offset)
        else:
            _fill(self._file, raw, self._start + offset)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorFile(OpenedTensors):
    """A tensor file of one floating dtype, read as one flat vector."""

    def _settle(self) -> None:
        self.stored = self.manifest.uniform_dtype()
        self.dtype = working_dtype(self.stored)
        self.count = sum(tensor.count for tensor in self.manifest.tensors)

    def read_flat(self, start: int, stop: int, scratch: Block) -> Block:
        """Fill `scratch` with elements start..stop of the buffer."""
        size = stop - start
        raw = scratch[:size] if scratch.dtype == self.stored else np.empty(size, self.stored)
        self._fill(raw, start * self.stored.itemsize)
        if raw.dtype != scratch.dtype:
            scratch[:size] = raw
        return scratch[:size]


class FileBlocks:
    """Several tensor files (parts of one update, or a model) as vectors of one length."""

    def __init__(self, files: Mapping[str, TensorFile]) -> None:
        self._files = files
        sizes = {(file.count, file.stored) for file in files.values()}
        if len(sizes) != 1:
            raise ShapeError(
                f"parts of one length and dtype needed, found {sorted(map(str, sizes))}",
                hint="every part must be laid out like the model",
            )
        [(self.count, stored)] = sizes
        self.dtype = working_dtype(stored)

    def read(self, name: str, start: int, stop: int, scratch: Block) -> Block:
        """Fill `scratch` from the file of that name."""
        return self._files[name].read_flat(start, stop, scratch)


class StateBlocks:
    """Vectors that lie one after another in one tensor file: the server state."""

    def __init__(self, file: TensorFile) -> None:
        tensors = file.manifest.tensors
        sizes = {tensor.count for tensor in tensors}
        if len(sizes) != 1:
            raise ShapeError(f"state vectors of lengths {sorted(sizes)}", hint="the state was not written by archipel")
        [self.count] = sizes
        self.dtype = file.dtype
        self._file = file
        self._first = {tensor.name: tensor.offset // file.stored.itemsize for tensor in tensors}

    def read(self, name: str, start: int, stop: int, scratch: Block) -> Block:
        """Fill `scratch` from the vector of that name."""
        first = self._first[name]
        return self._file.read_flat(first + start, first + stop, scratch)


class TensorFileWriter:
    """A tensor file written in blocks: the header first, then any column of any vector; finished on a normal exit.

    `vectors` says where each vector begins: {"model": 0} for a model that is one flat vector over all its tensors.
    `drafting` begins a file of the size it is given, as `Spool.draft` does; the caller puts `draft` into place.
    """

    def __init__(self, drafting: Callable[[int], Draft], manifest: Manifest, vectors: Mapping[str, int]) -> None:
        header = header_bytes(manifest)
        self._stored = manifest.uniform_dtype()
        self._begin = {name: len(header) + first * self._stored.itemsize for name, first in vectors.items()}
        self.draft = drafting(len(header) + manifest.size_bytes)
        self.draft.write(header, 0)

    def write(self, name: str, start: int, values: Block) -> None:
        """Write a block in the file's dtype."""
        data = memoryview(np.ascontiguousarray(values, dtype=self._stored).data).cast("B")
        self.draft.write(data, self._begin[name] + start * self._stored.itemsize)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.draft:
            if kind is None:
                self.draft.finish()


def read_manifest(file: io.RawIOBase) -> tuple[Manifest, int]:
    """Read an open tensor file's header; return its manifest and the byte at which the buffer begins."""
    manifest, start = read_header(file)
    if file.seek(0, os.SEEK_END) != start + manifest.size_bytes:
        raise SpecError("not a tensor file: its length is wrong", hint="fetch the file again")
    return manifest, start


def working_dtype(stored: np.dtype[Any]) -> np.dtype[np.floating[Any]]:
    """Return the dtype in which values stored as `stored` are averaged; a ShapeError for integers."""
    key = f"{stored.kind}{stored.itemsize}"
    if key not in WORKING:
        raise ShapeError(f"values of dtype {stored} cannot be averaged", hint="let the adapter cast them to float32")
    return WORKING[key]


def _fill(file: io.RawIOBase, out: Array, offset: int) -> None:
    view = memoryview(out.data).cast("B")
    file.seek(offset)
    while view.nbytes:
        got = file.readinto(view)
        if not got:
            raise SpecError("a tensor file ended early", hint="fetch the file again")
        view = view[got:]
