"""A worker's bench: the folder it works in, apart from the site's spool, which holds what is not its business.

    bench/TOKEN/
        blobs/DIGEST      what its task needs: the spool's own files by another name, which it can only read; where the
                          spool is sealed, plain copies, for a worker has no key
        bundles/DIGEST/   its code, checked and unpacked by the agent
        result-0 …        files it writes results to; they are always there, and it can make no others

The agent gives it blobs before a task, and afterwards copies results into the spool, hashing them anew: what a worker
says about its results is not believed, and a result that it goes on writing to is not the copy.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from archipel.data.bundle import open_bundle
from archipel.data.stores.files import READ_BYTES, Draft
from archipel.data.stores.spool import Spool, full_disk_named
from archipel.spec import Blob, StateError, TaskError

RESULTS = 3
"""A training round under SCAFFOLD has an update, its control's and the site's own control."""


class Bench:
    """The agent's side."""

    def __init__(self, benches: Path, spool: Spool) -> None:
        """Make a fresh one under `benches`, on the spool's file system."""
        self.folder = benches.absolute() / uuid.uuid4().hex
        self.results = tuple(self.folder / f"result-{number}" for number in range(RESULTS))
        self._spool = spool
        with full_disk_named(benches):
            (self.folder / "blobs").mkdir(parents=True)
            for file in self.results:
                file.touch()

    def give(self, blobs: Iterable[Blob], bundle: Blob) -> None:
        """Lay out what the next task needs, and take away what the one before needed.

        Raises:
            StateError: a blob is not in the spool.
        """
        wanted = {_name(blob) for blob in blobs}
        with full_disk_named(self.folder):
            for path in (self.folder / "blobs").iterdir():
                if path.name not in wanted:
                    path.unlink()
            for name in wanted:
                self._lay(name)
        code = self.folder / "bundles" / _name(bundle)
        if not code.exists():
            open_bundle(bytes(self._spool.view(bundle.digest)), code)

    def collect(self, files: Mapping[str, str], blobs: Iterable[Blob]) -> None:
        """Copy results into the spool, over what may be there: `files` says in which file each digest is.

        Raises:
            TaskError: a blob is in no file of results.
            DigestError: a file does not hold what was said.
            StorageFullError: there is no room for a copy.
        """
        known = {file.name: file for file in self.results}
        for blob in blobs:
            file = known.get(files.get(blob.digest, ""))
            if file is None and self._spool.has(blob.digest):
                continue  # it was given to it
            if file is None:
                raise TaskError(f"the worker has made no {blob.digest}", hint="report this: it is a fault")
            with file.open("rb") as source, self._spool.receive(blob, uuid.uuid4().hex) as incoming:
                while piece := source.read(READ_BYTES):
                    incoming.write(piece)
                if incoming.size < blob.size_bytes:
                    raise TaskError(f"the worker cut {blob.digest} short", hint="report this: it is a fault")
        for file in self.results:
            os.truncate(file, 0)

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
        self.made: dict[str, str] = {}
        """Digest → name of the file, of the task at hand."""
        self._used = 0

    def begin(self) -> None:
        """Begin a task: all files of results are free."""
        self.made = {}
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

    def draft(self, name: str, size_bytes: int) -> Draft:
        """See Blobs; it is the agent's copy that must outlive a crash."""
        return Draft(self.scratch(name), size_bytes, lasting=False)

    def scratch(self, name: str) -> Path:
        """See Blobs; where it lies is its name."""
        del name
        if self._used == RESULTS:
            raise StateError(f"a task with more than {RESULTS} results", hint="report this: it is a fault")
        path = self.folder / f"result-{self._used}"
        self._used += 1
        return path

    def adopt(self, draft: Draft) -> Blob:
        """See Blobs."""
        self.made[draft.digest] = draft.path.name
        return Blob(digest=draft.digest, size_bytes=draft.size_bytes)

    def discard(self, path: Path) -> None:
        """See Blobs; a result that was adopted stays."""
        if path.name not in self.made.values():
            with contextlib.suppress(OSError):
                os.truncate(path, 0)


def sweep(benches: Path) -> None:
    """Remove the benches of workers that have died with their agent."""
    shutil.rmtree(benches, ignore_errors=True)


def _name(blob: Blob) -> str:
    return blob.digest.removeprefix("sha256:")
