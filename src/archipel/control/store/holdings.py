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
        self._stored: set[str] = set()
        """What may be in the store; the rest came from sites and is only in the spool."""
        self._left: set[str] = set()
        """Artefacts that nobody holds and that are not dropped yet."""
        self._dropping: set[str] = set()
        """Artefacts whose drop is under way."""
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)

    def hold(self, holder: str, digests: Iterable[str], *, stored: bool = True) -> None:
        """`holder` needs these, from before they are put into the store on; not `stored`: they only came by.

        Where one is being dropped, this waits until it is gone: what is put into the store then stays.
        """
        wanted = set(digests)
        with self._settled:
            self._settled.wait_for(lambda: wanted.isdisjoint(self._dropping))
            for digest in wanted:
                self._holders.setdefault(digest, set()).add(holder)
            if stored:
                self._stored |= wanted

    def let_go(self, holder: str, digests: Iterable[str]) -> None:
        """`holder` does not need these any more; of those nobody holds, the store's copy is left to `drop_left`."""
        with self._lock:
            for digest in digests:
                holders = self._holders.get(digest, set())
                holders.discard(holder)
                if not holders:
                    self._holders.pop(digest, None)
                    self._spool.drop(digest)
                    if digest in self._stored:
                        self._left.add(digest)

    def held_by(self, holder: str) -> set[str]:
        """Return what a holder holds."""
        with self._lock:
            return {digest for digest, holders in self._holders.items() if holder in holders}

    def sweep(self) -> None:
        """Drop every spooled blob that nobody holds, and pieces of one: what is left of uploads nobody needed."""
        with self._lock:
            for digest in {*self._spool.digests(), *self._spool.begun()}:
                if digest not in self._holders:
                    self._spool.drop(digest)

    def drop_left(self) -> None:
        """Drop from the store what nobody holds: one request each, so call it where no other lock is held."""
        while (digest := self._begin_drop()) is not None:
            dropped = False
            try:
                self._artefacts.drop(digest)
                dropped = True
            except LinkError:
                return  # tried again when more is left; until then it only takes up space
            finally:
                self._end_drop(digest, dropped=dropped)

    def _begin_drop(self) -> str | None:
        with self._settled:
            self._left = {digest for digest in self._left if digest not in self._holders}
            if not self._left:
                return None
            digest = min(self._left)
            self._left.discard(digest)
            self._dropping.add(digest)
            return digest

    def _end_drop(self, digest: str, *, dropped: bool) -> None:
        with self._settled:
            self._dropping.discard(digest)
            (self._stored.discard if dropped else self._left.add)(digest)
            self._settled.notify_all()
