"""Spool: content-addressed files on the local disk, filled piece by piece and verified before they count.

    folder/ab/abcdef…            a whole blob, named by the hex of its SHA-256
    folder/partial/abcdef….SENDER  what has arrived of one; appended, so a broken transfer goes on where it stopped

A blob appears under its own name only after its bytes were hashed, flushed to disk and found to be what the name
says. Writing the same blob twice is harmless, also at the same time where the senders differ.

With a data key everything is sealed before it is written: digests and sizes are those of the plain bytes, and what
has arrived counts by whole chunks. `require` names the file as it lies on the disk; `open` reads it.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from archipel.data.stores.files import READ_BYTES, Draft, open_file
from archipel.data.stores.incoming import Incoming
from archipel.security.sealing import HEADER_BYTES, Sealing, is_sealed, opened_bytes
from archipel.spec import Blob, DigestError, StateError, StorageFullError, digest_of, failpoint

_HEX_DIGITS = 64


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

    def __init__(self, folder: Path, sealing: Sealing | None = None) -> None:
        self.folder = folder
        self.sealing = sealing
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

    def draft(self, name: str, size_bytes: int) -> Draft:
        """Begin a file of so many bytes, to be written and adopted; leftovers of that name are removed."""
        return Draft(self.scratch(name), size_bytes, self.sealing)

    def write(self, name: str, pieces: Iterable[bytes | memoryview], size_bytes: int) -> Blob:
        """Store a blob of so many bytes, in order, over what may be there; where that fails, none of them stay."""
        with full_disk_named(self.folder), self.draft(name, size_bytes) as draft:
            try:
                offset = 0
                for piece in pieces:
                    view = memoryview(piece)
                    while view.nbytes:
                        # Cut where the file's pages are whole: the kernel takes those in larger folios.
                        part = view[: READ_BYTES - offset % READ_BYTES]
                        draft.write(part, offset)
                        offset += part.nbytes
                        view = view[part.nbytes :]
                draft.finish()
                return self.adopt(draft)
            except BaseException:
                self.discard(draft.path)
                raise

    def adopt(self, draft: Draft) -> Blob:
        """Put a finished draft in place."""
        self._place(draft.path, draft.digest)
        return Blob(digest=draft.digest, size_bytes=draft.size_bytes)

    def open(self, digest: str) -> io.RawIOBase:
        """Open a whole blob to be read.

        Raises:
            StateError: it is not here.
            SealError: it is not what was sealed under this name.
        """
        return open_file(self.require(digest), digest, self.sealing)

    def view(self, digest: str) -> memoryview:
        """Return all bytes of a blob: mapped, or where it is sealed, opened into memory."""
        with self.open(digest) as file:
            if isinstance(file, io.FileIO):
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            opened = bytearray(file.seek(0, os.SEEK_END))
            file.seek(0)
            file.readinto(opened)
            return memoryview(opened).toreadonly()

    def seal_plain(self) -> None:
        """Seal what was written before there was a key; what has arrived of a plain blob is dropped, and sent again.

        May be repeated after a crash. A file that is not what its name says stays as it is, and cannot be opened.
        """
        if self.sealing is None:
            return
        for digest in list(self.digests()):
            if not _begins_sealed(self.path(digest)):
                self._seal(digest)
        for partial in (self.folder / "partial").iterdir():
            if not _begins_sealed(partial):
                partial.unlink()

    def _seal(self, digest: str) -> None:
        path = self.path(digest)
        with self.draft(f"sealing.{path.name}", path.stat().st_size) as draft, path.open("rb") as plain:
            offset = 0
            while piece := plain.read(READ_BYTES):
                draft.write(piece, offset)
                offset += len(piece)
            if draft.finish() == digest:
                self._place(draft.path, digest)
            else:
                draft.path.unlink()

    def _place(self, path: Path, digest: str) -> None:
        target = self.path(digest)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
        sync_folder(target.parent)

    def have(self, blob: Blob, sender: str = "") -> int:
        """Return how many bytes of `blob` are here (from `sender`): all, some or none."""
        if self.has(blob.digest):
            return blob.size_bytes
        partial = self._partial(blob.digest, sender)
        size = partial.stat().st_size if partial.exists() else 0
        return min(size, blob.size_bytes) if self.sealing is None else opened_bytes(size, blob.size_bytes)

    def settle(self, blob: Blob, sender: str = "") -> int:
        """Return how many bytes of `blob` are here, and none of them unseen.

        Where all came and the one who wrote them died before it looked at them, they are verified now.
        """
        if not self.has(blob.digest) and self.have(blob, sender) == blob.size_bytes:
            with suppress(DigestError), self.receive(blob, sender):
                pass
        return self.have(blob, sender)

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
                file = path.open("a+b")
            with file:
                incoming = Incoming(file, path, blob, self.sealing)
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
                self._place(path, digest)

    def drop(self, digest: str) -> None:
        """Remove a blob and what may have arrived of it; absent is fine."""
        self.path(digest).unlink(missing_ok=True)
        begin = digest.removeprefix("sha256:") + "."
        for partial in (self.folder / "partial").iterdir():  # a glob compiles its pattern anew for each digest
            if partial.name.startswith(begin):
                partial.unlink(missing_ok=True)

    def read(self, digest: str, offset: int = 0, piece_bytes: int = READ_BYTES) -> Iterator[bytes]:
        """Yield the bytes of a whole blob from `offset` on."""
        with self.open(digest) as file:
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

    def scratch(self, name: str) -> Path:
        """Return a path in the spool's file system for a file that is not a blob yet; leftovers are removed."""
        path = self.folder / "partial" / f"new-{name}"
        path.unlink(missing_ok=True)
        return path

    def discard(self, path: Path) -> None:
        """Remove a file that was not adopted; of one that was, there is nothing left under this name."""
        path.unlink(missing_ok=True)

    def _partial(self, digest: str, sender: str) -> Path:
        return self.folder / "partial" / f"{digest.removeprefix('sha256:')}.{sender}"


def _begins_sealed(path: Path) -> bool:
    with path.open("rb") as file:
        return is_sealed(file.read(HEADER_BYTES))


def sync_folder(folder: Path) -> None:
    """Flush a rename to disk, where the platform lets a folder be opened."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
