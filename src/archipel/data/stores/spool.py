"""Spool: content-addressed files on the local disk, filled piece by piece and verified before they count.

    folder/ab/abcdef…            a whole blob, named by the hex of its SHA-256
    folder/partial/abcdef….SENDER  what has arrived of one; appended, so a broken transfer goes on where it stopped

A blob appears under its own name only after its bytes were hashed, flushed to disk and found to be what the name
says. Writing the same blob twice is harmless, also at the same time where the senders differ.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from archipel.spec import Blob, DigestError, StateError, StorageFullError, digest_of, failpoint

_HEX_DIGITS = 64
READ_BYTES = 256 * 1024
"""Read at a time where nothing else is asked: what is hashed next is still in the second-level cache."""


@contextmanager
def full_disk_named(path: Path, hint: str = "free some space; the work goes on by itself") -> Iterator[None]:
    """Turn "no space left on device" into a StorageFullError that names the folder and the next step."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise StorageFullError(f"no space left in {path}", hint=hint) from error


class Spool:
    """Blobs in a folder; see the module for the layout. Safe for several threads on different blobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._naming = threading.Lock()
        """Held while a name in partial/ is given to another file."""
        (folder / "partial").mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Return where a whole blob lies (or would lie)."""
        name = digest.removeprefix("sha256:")
        return self.folder / name[:2] / name

    def has(self, digest: str) -> bool:
        """Is the whole blob here?"""
        return self.path(digest).exists()

    def require(self, digest: str) -> Path:
        """Return the path of a whole blob; StateError if it is not here."""
        path = self.path(digest)
        if not path.exists():
            raise StateError(f"blob {digest} is not in {self.folder}", hint="resume the run: it is fetched again")
        return path

    def put(self, data: bytes | memoryview) -> Blob:
        """Store bytes; return their name. Who puts the same bytes at the same time writes another file."""
        blob = Blob(digest=digest_of(data), size_bytes=len(data))
        if not self.has(blob.digest):
            with self.receive(blob, uuid4().hex) as incoming:
                incoming.write(data)
        return blob

    def adopt(self, path: Path, digest: str) -> Blob:
        """Take over a finished, fsynced file of this file system under the digest its writer computed."""
        target = self.path(digest)
        target.parent.mkdir(exist_ok=True)
        size = path.stat().st_size
        path.replace(target)
        sync_folder(target.parent)
        return Blob(digest=digest, size_bytes=size)

    def have(self, blob: Blob, sender: str = "") -> int:
        """Return how many bytes of `blob` are here (from `sender`): all, some or none."""
        if self.has(blob.digest):
            return blob.size_bytes
        partial = self._partial(blob.digest, sender)
        return min(partial.stat().st_size, blob.size_bytes) if partial.exists() else 0

    @contextmanager
    def receive(self, blob: Blob, sender: str = "", *, restart: bool = False) -> Iterator[Incoming]:
        """Append to what is here of `blob`; on a normal exit with all bytes there, verify and publish it.

        An exit with bytes missing, or an exception, keeps what has arrived (`have` tells how much).

        Raises:
            DigestError: all bytes are there and they are wrong; what had arrived is dropped.
            StorageFullError: the disk is full.
        """
        path = self._partial(blob.digest, sender)
        if restart:
            path.unlink(missing_ok=True)
        with full_disk_named(self.folder):
            with self._naming:
                file = path.open("ab")
            with file:
                incoming = Incoming(file, path, blob)
                yield incoming
                if incoming.size < blob.size_bytes:
                    return
                incoming.verify()
                file.flush()
                failpoint("spool.receive.before_fsync")
                os.fsync(file.fileno())
                failpoint("spool.receive.after_fsync")
                self._publish(path, file, blob.digest)

    def _publish(self, path: Path, file: IO[bytes], digest: str) -> None:
        """Give a whole partial blob its own name, unless it has it: the name in partial/ may be another file's by now.

        Two that write the same bytes from one sender are one file until the first of them publishes it.
        """
        with self._naming, suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                self.adopt(path, digest)

    def drop(self, digest: str) -> None:
        """Remove a blob and what may have arrived of it; absent is fine."""
        self.path(digest).unlink(missing_ok=True)
        begin = digest.removeprefix("sha256:") + "."
        for partial in (self.folder / "partial").iterdir():  # a glob compiles its pattern anew for each digest
            if partial.name.startswith(begin):
                partial.unlink(missing_ok=True)

    def read(self, digest: str, offset: int = 0, piece_bytes: int = READ_BYTES) -> Iterator[bytes]:
        """Yield the bytes of a whole blob from `offset` on."""
        with self.require(digest).open("rb") as file:
            file.seek(offset)
            while piece := file.read(piece_bytes):
                yield piece

    def digests(self) -> Iterator[str]:
        """Yield the digests of the whole blobs that are here."""
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            yield f"sha256:{path.name}"

    def begun(self) -> Iterator[str]:
        """Yield the digests of blobs of which something has arrived."""
        for path in (self.folder / "partial").iterdir():
            if path.name.find(".") == _HEX_DIGITS:
                yield f"sha256:{path.name[:_HEX_DIGITS]}"

    def new_file(self, name: str) -> Path:
        """Return a path in the spool's file system for a file to be written and adopted; leftovers are removed."""
        path = self.folder / "partial" / f"new-{name}"
        path.unlink(missing_ok=True)
        return path

    def settle(self, file: IO[bytes]) -> None:
        """Flush a file that is about to be adopted to disk."""
        os.fsync(file.fileno())

    def discard(self, path: Path) -> None:
        """Remove a file of `new_file` that was not adopted; of one that was, there is nothing left under this name."""
        path.unlink(missing_ok=True)

    def _partial(self, digest: str, sender: str) -> Path:
        return self.folder / "partial" / f"{digest.removeprefix('sha256:')}.{sender}"


class Incoming:
    """An open partial blob: hashes what is written, and first what was there before."""

    def __init__(self, file: IO[bytes], path: Path, blob: Blob) -> None:
        self._file = file
        self._path = path
        self._blob = blob
        self._hash = hashlib.sha256()
        self.size = path.stat().st_size
        if self.size:
            with path.open("rb") as before:
                while piece := before.read(READ_BYTES):
                    self._hash.update(piece)

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`; a DigestError if that is more than the blob has."""
        if self.size + len(data) > self._blob.size_bytes:
            self._refuse("is longer than announced")
        self._file.write(data)
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


def sync_folder(folder: Path) -> None:
    """Flush a rename to disk, where the platform lets a folder be opened."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
