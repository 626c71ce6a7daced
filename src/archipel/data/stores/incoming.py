"""Incoming: an open partial blob. Hashes what is written, and first what was there before; sealed, if there is a key.

Sealed, only whole chunks are on the disk: what came of the next one is lost with the process, and is sent again. A
partial blob that does not open (changed, or torn by a power cut) begins anew.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, Any, Protocol

from archipel.data.stores.files import READ_BYTES
from archipel.data.stores.room import Room
from archipel.security.sealing import (
    CHUNK_BYTES,
    HEADER_BYTES,
    SEALED_CHUNK_BYTES,
    Envelope,
    Sealing,
    chunk_place,
    opened_bytes,
)
from archipel.spec import Blob, DigestError, SealError


class Incoming:
    """An open partial blob; `size` plain bytes of it are here."""

    def __init__(self, file: IO[bytes], path: Path, blob: Blob, sealing: Sealing | None = None) -> None:
        """`file` is opened to be read and appended to."""
        self._path = path
        self._blob = blob
        self._hash = hashlib.sha256()
        self._end: _End = _Plain(file, blob) if sealing is None else _Sealed(file, blob, sealing)
        self.size = self._end.recall(self._hash)

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`; a DigestError if that is more than the blob has."""
        if self.size + len(data) > self._blob.size_bytes:
            self._refuse("is longer than announced")
        self._end.write(data)
        self._hash.update(data)
        self.size += len(data)

    def verify(self) -> None:
        """Check the digest of everything written."""
        if "sha256:" + self._hash.hexdigest() != self._blob.digest:
            self._refuse("does not have the bytes its digest says")

    def _refuse(self, why: str) -> None:
        self._path.unlink(missing_ok=True)
        raise DigestError(
            f"blob {self._blob.digest} {why}", hint="it is fetched again; if this repeats, check the disk"
        )


class _End(Protocol):
    """Where the next bytes go."""

    def recall(self, digest: Any) -> int:
        """Hash what is here; return how much that is."""
        ...

    def write(self, data: bytes | memoryview) -> None: ...


class _Plain:
    def __init__(self, file: IO[bytes], blob: Blob) -> None:
        self._file = file
        self._room = Room(file.fileno(), blob.size_bytes)
        self._size = 0

    def recall(self, digest: Any) -> int:
        self._file.seek(0)
        while piece := self._file.read(READ_BYTES):
            digest.update(piece)
            self._size += len(piece)
        return self._size

    def write(self, data: bytes | memoryview) -> None:
        self._size += len(data)
        self._room.reach(self._size)
        self._file.write(data)


class _Sealed:
    def __init__(self, file: IO[bytes], blob: Blob, sealing: Sealing) -> None:
        self._file = file
        self._blob = blob
        self._sealing = sealing
        self._envelope, self._next = self._found()
        self._begun = bytearray()
        """What came of the next chunk."""

    def recall(self, digest: Any) -> int:
        try:
            for index in range(self._next):
                digest.update(self._opened(index))
        except SealError:
            # Only what was hashed counts: the rest comes again, under nonces of its own.
            self._next = index
        if self._next < self._envelope.chunks:
            self._file.truncate(chunk_place(self._next))
        if self._blob.size_bytes == 0 and self._next == 0:
            self._seal(b"")
        return min(self._next * CHUNK_BYTES, self._blob.size_bytes)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view.nbytes:
            length = self._envelope.length_of(self._next)
            part = view[: length - len(self._begun)]
            view = view[part.nbytes :]
            if part.nbytes == length:
                self._seal(part)
                continue
            self._begun += part
            if len(self._begun) == length:
                self._seal(self._begun)
                self._begun = bytearray()

    def _found(self) -> tuple[Envelope, int]:
        """Return the envelope in the file, begun if there is none that holds, and how many chunks follow it."""
        self._file.seek(0)
        try:
            envelope = self._sealing.opened(self._file.read(HEADER_BYTES), self._blob.digest)
            if envelope.size_bytes == self._blob.size_bytes:
                here = opened_bytes(os.fstat(self._file.fileno()).st_size, envelope.size_bytes)
                whole = here == envelope.size_bytes and here > 0
                return envelope, envelope.chunks if whole else here // CHUNK_BYTES
        except SealError:
            pass
        envelope = self._sealing.envelope(self._blob.size_bytes)
        self._file.truncate(0)
        self._file.write(envelope.header(self._blob.digest))
        self._file.flush()
        return envelope, 0

    def _opened(self, index: int) -> bytes:
        self._file.seek(chunk_place(index))
        return self._envelope.open(index, self._file.read(SEALED_CHUNK_BYTES))

    def _seal(self, data: bytes | bytearray | memoryview) -> None:
        self._file.write(self._envelope.seal(self._next, data))
        self._next += 1
