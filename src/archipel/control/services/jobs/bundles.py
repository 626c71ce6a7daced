"""Bundles: the task code that travels to the sites. Checked whole before it is kept; its digest is its name."""

from __future__ import annotations

from collections.abc import Callable

from archipel.control.store import runs as rows
from archipel.control.store.database import Database
from archipel.control.store.holdings import Holdings
from archipel.data.bundle import read_bundle
from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.spec import Blob, StateError, digest_of, failpoint

HOLDER = "bundles"
"""Name under which bundles are held; none is ever let go."""


class Bundles:
    """Keeps bundles in the artefact store, and beside it in the spool for the sites to fetch."""

    def __init__(
        self, database: Database, spool: Spool, artefacts: Artefacts, holdings: Holdings, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._holdings = holdings
        self._spool = spool
        self._artefacts = artefacts
        self._clock = clock

    def add(self, data: bytes) -> Blob:
        """Check and keep a bundle; the same bytes again are harmless.

        Raises:
            TrustError: it is not a bundle as `pack_bundle` makes it.
            StorageFullError: no space; nothing is kept.
        """
        read_bundle(data)
        self._holdings.hold(HOLDER, [digest_of(data)])
        blob = self._spool.put(data)
        self._artefacts.put_file(self._spool.require(blob.digest), blob)
        failpoint("control.bundle.after_artefact")
        self._database.write(lambda connection: rows.add_bundle(connection, blob, self._clock()))
        return blob

    def require(self, digest: str) -> Blob:
        """Return a kept bundle."""
        blob = self._database.read(lambda connection: rows.bundle(connection, digest))
        if blob is None:
            raise StateError(f"no bundle {digest} was uploaded", hint="upload it first: POST /v1/bundles")
        return blob

    def members(self, blob: Blob) -> set[str]:
        """Return the names of the files in a kept bundle."""
        return set(read_bundle(bytes(self._artefacts.fetch(blob, self._spool))))
