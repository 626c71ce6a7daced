"""Blobs as files: read at any place, or written at any place and hashed on the way; plain, or sealed by a data key.

    open_file(path, digest, sealing)     what `open(path, "rb")` gives, but for what is sealed
    Draft(path, size, sealing)           a file being written; `finish` gives its digest, with all of it on the disk

The layout of a sealed file is that of archipel.security.sealing.chunks.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from archipel.data.stores.room import Room
from archipel.security.sealing import (
    CHUNK_BYTES,
    HEADER_BYTES,
    SEALED_CHUNK_BYTES,
    Envelope,
    Sealing,
    chunk_place,
    sealed_bytes,
)
from archipel.spec import SealError

READ_BYTES = 512 * 1024
"""Read at a time where nothing else is asked: what is hashed next is still in the second-level cache, and the kernel
takes what is written in large folios."""


def open_file(path: Path, digest: str, sealing: Sealing | None) -> io.RawIOBase:
    """Open a whole blob to be read, as plain bytes.

    Raises:
        SealError: it is not what was sealed under this name, or its length is wrong.
    """
    raw = path.open("rb", buffering=0)
    if sealing is None:
        return raw
    try:
        return SealedFile(raw, _envelope_of(raw, digest, sealing))
    except BaseException:
        raw.close()
        raise


def _envelope_of(raw: io.FileIO, digest: str, sealing: Sealing) -> Envelope:
    envelope = sealing.opened(raw.read(HEADER_BYTES), digest)
    if os.fstat(raw.fileno()).st_size != sealed_bytes(envelope.size_bytes):
        raise SealError(f"{digest} is cut short, or too long", hint="resume the run: it is fetched again")
    return envelope


class SealedFile(io.RawIOBase):
    """A sealed file, read as its plain bytes; a SealError where a chunk does not open."""

    def __init__(self, raw: io.FileIO, envelope: Envelope) -> None:
        super().__init__()
        self._raw = raw
        self._envelope = envelope
        self._place = 0
        self._index, self._chunk = -1, b""
        """The chunk that was opened last: whoever reads on most often begins in it."""

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the plain bytes."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._envelope.size_bytes}[whence]
        self._place = begin + offset
        return self._place

    def tell(self) -> int:
        """Return the place in the plain bytes."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from here on; less only at the end."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(view.nbytes, self._envelope.size_bytes - self._place))
        filled = 0
        while filled < wanted:
            index, begin = divmod(self._place + filled, CHUNK_BYTES)
            part = memoryview(self._opened(index))[begin : begin + wanted - filled]
            view[filled : filled + part.nbytes] = part
            filled += part.nbytes
        self._place += filled
        return filled

    def readall(self) -> bytes:
        """Return the rest."""
        out = bytearray(max(0, self._envelope.size_bytes - self._place))
        self.readinto(out)
        return bytes(out)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()
        super().close()

    def _opened(self, index: int) -> bytes:
        if index != self._index:
            sealed = os.pread(self._raw.fileno(), SEALED_CHUNK_BYTES, chunk_place(index))
            self._index, self._chunk = index, self._envelope.open(index, sealed)
        return self._chunk


class Draft:
    """A file being written, of a size that is known; a context manager that closes it.

    What comes in the file's order is hashed on its way; otherwise `finish` reads it once more. The one who makes it
    puts it in place (`Spool.adopt`), or removes it.
    """

    def __init__(self, path: Path, size_bytes: int, sealing: Sealing | None = None) -> None:
        """Begin the file."""
        self.path = path
        self.size_bytes = size_bytes
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        envelope = None if sealing is None else sealing.envelope(size_bytes)
        self._pages: _Pages = (
            _Plain(self._descriptor, size_bytes) if envelope is None else _Sealed(self._descriptor, envelope)
        )
        self._hash, self._hashed = hashlib.sha256(), 0
        self.digest = ""
        """Of the plain bytes, once it is finished."""

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at a place."""
        view = memoryview(data)
        self._pages.write(view, offset)
        if offset == self._hashed:
            self._hash.update(view)
            self._hashed += view.nbytes
        elif offset < self._hashed:
            self._hashed = -1  # written over: what was hashed is not in the file any more

    def finish(self) -> str:
        """Flush all to the disk; return the digest."""
        self._pages.flush()
        found = self._hash if self._hashed == self.size_bytes else self._hash_again()
        self.digest = f"sha256:{found.hexdigest()}"
        self._pages.close(self.digest)
        os.fsync(self._descriptor)
        return self.digest

    def _hash_again(self) -> Any:
        found = hashlib.sha256()
        for offset in range(0, self.size_bytes, READ_BYTES):
            found.update(self._pages.read(min(READ_BYTES, self.size_bytes - offset), offset))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


class _Pages(Protocol):
    """Where a draft's bytes go."""

    def write(self, view: memoryview, offset: int) -> None: ...

    def flush(self) -> None:
        """Hand everything to the file."""
        ...

    def read(self, size: int, offset: int) -> bytes: ...

    def close(self, digest: str) -> None:
        """Say what the whole is."""
        ...


class _Plain:
    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._room = Room(descriptor, size_bytes)

    def write(self, view: memoryview, offset: int) -> None:
        self._room.reach(offset + view.nbytes)
        write_all(self._descriptor, view, offset)

    def flush(self) -> None:
        pass

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def close(self, digest: str) -> None:
        pass


class _Sealed:
    """Chunks are sealed when they are full: vectors that are written side by side hold one begun chunk each."""

    def __init__(self, descriptor: int, envelope: Envelope) -> None:
        self._descriptor = descriptor
        self._envelope = envelope
        self._begun: dict[int, tuple[bytearray, int]] = {}
        """Chunk → its bytes, and how many of them were written."""
        self._sealed = bytearray(envelope.chunks)

    def write(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < view.nbytes:
            index, begin = divmod(offset + done, CHUNK_BYTES)
            part = view[done : done + CHUNK_BYTES - begin]
            if part.nbytes == self._envelope.length_of(index):
                self._begun.pop(index, None)
                self._seal(index, part)
            else:
                self._fill(index, begin, part)
            done += part.nbytes

    def flush(self) -> None:
        """Seal what is not full too: a hole is zeros, as in any file."""
        for index in [*self._begun, *(index for index, sealed in enumerate(self._sealed) if not sealed)]:
            data, _ = self._begun.pop(index, (bytearray(self._envelope.length_of(index)), 0))
            if not self._sealed[index]:
                self._seal(index, memoryview(data))

    def read(self, size: int, offset: int) -> bytes:
        out = bytearray()
        while len(out) < size:
            index, begin = divmod(offset + len(out), CHUNK_BYTES)
            out += self._opened(index)[begin : begin + size - len(out)]
        return bytes(out)

    def close(self, digest: str) -> None:
        write_all(self._descriptor, memoryview(self._envelope.header(digest)), 0)

    def _fill(self, index: int, begin: int, part: memoryview) -> None:
        if self._sealed[index]:
            data, known = bytearray(self._opened(index)), 0
            self._sealed[index] = 0
        else:
            data, known = self._begun.pop(index, (bytearray(self._envelope.length_of(index)), 0))
        data[begin : begin + part.nbytes] = part
        if known + part.nbytes < len(data):
            self._begun[index] = (data, known + part.nbytes)
        else:
            self._seal(index, memoryview(data))

    def _seal(self, index: int, data: memoryview) -> None:
        write_all(self._descriptor, memoryview(self._envelope.seal(index, data)), chunk_place(index))
        self._sealed[index] = 1

    def _opened(self, index: int) -> bytes:
        return self._envelope.open(index, os.pread(self._descriptor, SEALED_CHUNK_BYTES, chunk_place(index)))


def write_all(descriptor: int, view: memoryview, offset: int) -> None:
    """Write all of a view of bytes at a place."""
    while view.nbytes:
        done = os.pwrite(descriptor, view, offset)
        view = view[done:]
        offset += done
