"""Bytes moved, by run, site and phase: counted in memory, written with the next event of the run."""

from __future__ import annotations

import threading

from sqlalchemy import Connection

from archipel.control.store import runs as rows
from archipel.spec import Kind
from archipel.spec.views import Moved

Key = tuple[str, Kind]


class Traffic:
    """What moved in one run since it was last written; safe for several threads."""

    def __init__(self) -> None:
        self._fresh: dict[Key, list[int]] = {}
        self._lock = threading.Lock()

    def count(self, site: str, kind: Kind, *, up_bytes: int = 0, down_bytes: int = 0) -> None:
        """Add what a transfer has moved."""
        with self._lock:
            counts = self._fresh.setdefault((site, kind), [0, 0])
            counts[0] += up_bytes
            counts[1] += down_bytes

    def take(self) -> tuple[Moved, ...]:
        """Return what is not yet written, and begin anew; `put_back` undoes it."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        return tuple(
            Moved(site=site, phase=kind, up_bytes=up, down_bytes=down) for (site, kind), (up, down) in fresh.items()
        )

    def put_back(self, moved: tuple[Moved, ...]) -> None:
        """The write did not happen."""
        for item in moved:
            self.count(item.site, item.phase, up_bytes=item.up_bytes, down_bytes=item.down_bytes)

    def peek(self) -> tuple[int, int]:
        """Return the bytes (up, down) that are not yet written."""
        with self._lock:
            return sum(up for up, _ in self._fresh.values()), sum(down for _, down in self._fresh.values())


def write_within(connection: Connection, run: str, moved: tuple[Moved, ...]) -> None:
    """Add to the run's transfers in the database."""
    for item in moved:
        rows.add_bytes(connection, run, item)
