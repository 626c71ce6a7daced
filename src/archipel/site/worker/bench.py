"""A worker's bench: the folder it works in, apart from the site's spool, which holds what is not its business.

    bench/TOKEN/
        blobs/DIGEST      what its task needs: the spool's own files by another name, which it can only read; where the
                          spool is sealed, plain copies, for a worker has no key
        bundles/DIGEST/   its code, checked and unpacked by the agent
        result-0 …        files it writes results to; they are always there, and it can make no others

The agent gives it blobs before a task, and afterwards copies results into the spool. A worker names a result by its
place, a digest that no bytes have: only the agent hashes, and what it hashes is its copy, so there is nothing to
believe, and what a worker goes on writing changes nothing. Files of results are written over by the next task: pages
that are there cost less than half of fresh ones.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from archipel.data.bundle import open_bundle
from archipel.data.stores.files import READ_BYTES, write_all
from archipel.data.stores.spool import Spool, full_disk_named
from archipel.spec import Blob, StateError, TaskError, Update

RESULTS = 3
"""A training round under SCAFFOLD has an update, its control's and the site's own control."""
_FAULT = "report this: it is a fault"


def place(number: int) -> str:
    """Return what the worker calls the result in file `number` by, instead of its digest."""
    return f"sha256:{number:064x}"


class Bench:
    """The agent's side."""

    def __init__(self, benches: Path, spool: Spool) -> None:
        """Make a fresh one under `benches`, on the spool's file system."""
        self.folder = benches.absolute() / uuid.uuid4().hex
        self.results = tuple(self.folder / f"result-{number}" for number in range(RESULTS))
        self._spool = spool
        self._given: frozenset[Blob] = frozenset()
        with full_disk_named(benches):
            (self.folder / "blobs").mkdir(parents=True)
            for file in self.results:
                file.touch()

    def give(self, blobs: Iterable[Blob], bundle: Blob) -> None:
        """Lay out what the next task needs, and take away what the one before needed.

        Raises:
            StateError: a blob is not in the spool.
        """
        self._given = frozenset(blobs)
        wanted = {_name(blob) for blob in self._given}
        with full_disk_named(self.folder):
            for path in (self.folder / "blobs").iterdir():
                if path.name not in wanted:
                    path.unlink()
            for name in wanted:
                self._lay(name)
        code = self.folder / "bundles" / _name(bundle)
        if not code.exists():
            open_bundle(bytes(self._spool.view(bundle.digest)), code)

    def collect(self, update: Update, state: Mapping[str, Blob]) -> tuple[Update, dict[str, Blob]]:
        """Copy results into the spool; return update and state with the digests of the copies.

        Raises:
            TaskError: a blob is no result, and was not given to it; or a result is shorter than said.
            StorageFullError: there is no room for a copy.
        """
        said = dict.fromkeys([*(part.blob for part in update.parts.values()), *state.values()])
        files = {place(number): file for number, file in enumerate(self.results)}
        if len({blob.digest for blob in said}) < len(said):
            raise TaskError("the worker gave one result two sizes", hint=_FAULT)
        true = {blob: self._copied(blob, files.get(blob.digest)) for blob in said}
        if self._spool.sealing is not None:
            for file in self.results:
                os.truncate(file, 0)  # they are plain
        parts = {name: replace(part, blob=true[part.blob]) for name, part in update.parts.items()}
        return replace(update, parts=parts), {name: true[blob] for name, blob in state.items()}

    def _copied(self, blob: Blob, file: Path | None) -> Blob:
        if file is None and blob in self._given:
            return blob
        if file is None:
            raise TaskError(f"the worker has made no {blob.digest}", hint=_FAULT)
        with file.open("rb", buffering=0) as source:
            _require(blob, os.fstat(source.fileno()).st_size)
            return self._spool.write(f"result.{uuid.uuid4().hex}", _pieces(source, blob), blob.size_bytes)

    def remove(self) -> None:
        """Remove it; a worker that still ends may hold a file a moment longer."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lay(self, name: str) -> None:
        digest = f"sha256:{name}"
        target, source = self.folder / "blobs" / name, self._spool.require(digest)
        if target.exists() and (self._spool.sealing is not None or target.samefile(source)):
            return
        target.unlink(missing_ok=True)
        if self._spool.sealing is None:
            with contextlib.suppress(OSError):  # some file systems have no second names
                os.link(source, target)
                return
        with target.open("wb") as copy:
            copy.writelines(self._spool.read(digest))


class BenchBlobs:
    """The worker's side: the `Blobs` of its Worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._used = 0

    def begin(self) -> None:
        """Begin a task: all files of results are free."""
        self._used = 0

    def require(self, digest: str) -> Path:
        """See Blobs."""
        path = self.folder / "blobs" / digest.removeprefix("sha256:")
        if not path.exists():
            raise StateError(f"the task was given no blob {digest}", hint="resume the run: it is fetched again")
        return path

    def view(self, digest: str) -> memoryview:
        """See Blobs."""
        with self.require(digest).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def write(self, name: str, pieces: Iterable[bytes | memoryview], size_bytes: int) -> Blob:
        """See Blobs; its digest is its place, and it is the agent's copy that must outlive a crash."""
        number, path = self._used, self._next(name)
        try:
            with path.open("r+b", buffering=0) as file:
                offset = 0
                for piece in pieces:
                    write_all(file.fileno(), memoryview(piece), offset)
                    offset += len(piece)
        except BaseException:
            self.discard(path)
            raise
        return Blob(digest=place(number), size_bytes=size_bytes)

    def scratch(self, name: str) -> Path:
        """See Blobs."""
        path = self._next(name)
        self.discard(path)
        return path

    def discard(self, path: Path) -> None:
        """See Blobs."""
        with contextlib.suppress(OSError):
            os.truncate(path, 0)

    def _next(self, name: str) -> Path:
        if self._used == RESULTS:
            raise StateError(f"no file is left for {name}: a task has {RESULTS} results", hint=_FAULT)
        self._used += 1
        return self.folder / f"result-{self._used - 1}"


def sweep(benches: Path) -> None:
    """Remove the benches of workers that have died with their agent."""
    shutil.rmtree(benches, ignore_errors=True)


def _pieces(source: io.FileIO, blob: Blob) -> Iterator[memoryview]:
    """Yield the bytes of a result, one after the other in the same buffer."""
    buffer = memoryview(bytearray(READ_BYTES))
    place = 0
    while place < blob.size_bytes:
        got = source.readinto(buffer[: blob.size_bytes - place])
        if not got:
            _require(blob, place)
        yield buffer[:got]
        place += got


def _require(blob: Blob, here: int) -> None:
    if here < blob.size_bytes:
        message = f"the worker cut a result short: {here} of {blob.size_bytes} bytes are there"
        raise TaskError(message, hint=_FAULT)


def _name(blob: Blob) -> str:
    return blob.digest.removeprefix("sha256:")
