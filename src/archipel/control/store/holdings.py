"""Who still needs a blob: bytes are dropped when their last holder lets go.

Names are digests, so two runs (or two sites of one round) may mean the same file. Kept in memory; at a start every
holder (unfinished runs, the registry) says again what it holds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.spec import LinkError


class Holdings:
    """Counts holders of blobs and drops what nobody holds."""

    def __init__(self, spool: Spool, artefacts: Artefacts) -> None:
        self._spool = spool
        self._artefacts = artefacts
        self._holders: dict[str, set[str]] = {}
        self._left: set[str] = set()
        """Artefacts that nobody holds and that could not be dropped yet: the store was away."""
        self._lock = threading.Lock()

    def hold(self, holder: str, digests: Iterable[str]) -> None:
        """`holder` needs these."""
        with self._lock:
            for digest in digests:
                self._holders.setdefault(digest, set()).add(holder)

    def let_go(self, holder: str, digests: Iterable[str]) -> None:
        """`holder` does not need these any more; bytes nobody else holds are dropped."""
        with self._lock:
            for digest in digests:
                holders = self._holders.get(digest, set())
                holders.discard(holder)
                if not holders:
                    self._holders.pop(digest, None)
                    self._spool.drop(digest)
                    self._left.add(digest)
            self._drop_left()

    def held_by(self, holder: str) -> set[str]:
        """Return what a holder holds."""
        with self._lock:
            return {digest for digest, holders in self._holders.items() if holder in holders}

    def sweep(self) -> None:
        """Drop every spooled blob that nobody holds: what is left of uploads that were not needed in the end."""
        with self._lock:
            for digest in list(self._spool.digests()):
                if digest not in self._holders:
                    self._spool.drop(digest)

    def _drop_left(self) -> None:
        self._left -= self._holders.keys()
        for digest in sorted(self._left):
            try:
                self._artefacts.drop(digest)
            except LinkError:
                return  # tried again when the next blob is let go; until then it only takes up space
            self._left.discard(digest)
