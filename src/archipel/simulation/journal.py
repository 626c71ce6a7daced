"""What sites and folding came to in a simulation of sites, kept so that an interrupted one goes on.

A simulation is deterministic: asked the same, in the same order, everything answers the same. So each answer is written
down as it comes, and a simulation that begins again takes what is written instead of doing it again. The blobs that
answers name lie in the spool beside.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import msgspec

from archipel.data.stores.spool import full_disk_named
from archipel.federated.port import RunEvent, SiteRefused, UpdateAccepted
from archipel.spec import Blob, decode, encode


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, and the state that the site's memory took with it."""

    event: RunEvent
    state: dict[str, Blob] = {}


class Journal:
    """A file of one line an entry, under a first line that names what must be the same to go on; None: never go on."""

    def __init__(self, path: Path, key: str | None) -> None:
        self._path = path
        self._known: deque[Entry] = deque()
        whole = [line for line in _lines(path) if line.endswith(b"\n")]  # a kill may cut the last one
        if key is None or not whole or decode(whole[0], str) != key:
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = [encode(key or "") + b"\n"]
        while len(whole) > 1 and _is_open(decode(whole[-1], Entry).event):
            whole.pop()
        with full_disk_named(path.parent):
            path.write_bytes(b"".join(whole))
        self._known.extend(decode(line, Entry) for line in whole[1:])

    @property
    def going_on(self) -> bool:
        """Whether there are answers that have not been taken yet."""
        return bool(self._known)

    def take(self) -> Entry:
        """Return the next answer that is known."""
        return self._known.popleft()

    def add(self, entry: Entry) -> None:
        """Write an answer down.

        Raises:
            StorageFullError: the disk is full.
        """
        with full_disk_named(self._path.parent), self._path.open("ab") as file:
            file.write(encode(entry) + b"\n")

    def clear(self) -> None:
        """Forget all: the simulation is over."""
        self._path.unlink(missing_ok=True)


def _is_open(event: RunEvent) -> bool:
    """Is this of a secure sum that was under way? Its keys were in memory: it begins again, with the same result."""
    return isinstance(event, SiteRefused) or (isinstance(event, UpdateAccepted) and bool(event.update.message))


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.is_file() else []
