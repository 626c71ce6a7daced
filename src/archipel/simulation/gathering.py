"""The updates of one round of virtual clients, for rules that must see all of them before they take any.

    gathering = Gathering(folder, clients=50, parts=("delta",), like=model)
    gathering.add("client-7", 60.0, {"delta": delta})      # as it is there
    gathering.updates                                      # client → (weight, part → vector), for fold_arrays

They lie in one file without a name, whose pages the system writes out when it needs the memory: what a round takes does
not grow with its clients.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from archipel.data.stores.spool import full_disk_named
from archipel.federated.port import Block


class Gathering:
    """Updates, as they come."""

    def __init__(self, folder: Path, *, clients: int, parts: Sequence[str], like: Block) -> None:
        """Set room aside for the updates of so many clients.

        Raises:
            StorageFullError: the disk is full.
        """
        with full_disk_named(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                # Without the space set aside, a full disk would end the process where a page is written to.
                os.posix_fallocate(file.fileno(), 0, clients * len(parts) * like.nbytes)
                self._rows = np.memmap(file, like.dtype, "r+", shape=(clients, len(parts), like.size))
        self._parts = tuple(parts)
        self.updates: dict[str, tuple[float, dict[str, Block]]] = {}

    def add(self, client: str, weight: float, parts: Mapping[str, Block]) -> None:
        """Keep a client's update."""
        row = self._rows[len(self.updates)]
        for place, name in enumerate(self._parts):
            row[place] = parts[name]
        self.updates[client] = (weight, {name: row[place] for place, name in enumerate(self._parts)})
