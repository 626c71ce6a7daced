"""What virtual clients remember from one round they train in to the next: SCAFFOLD's control variates, on disk.

Only clients that have trained have a file, so neither memory nor disk grows with the population.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from archipel.data.stores.spool import full_disk_named
from archipel.federated.port import Block


class Controls:
    """Client → its control variate; the folder is emptied first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[str] = set()
        shutil.rmtree(folder, ignore_errors=True)

    def get(self, client: str) -> Block | None:
        """Return what the client kept; None: it has not trained yet."""
        if client not in self._known:
            return None
        kept: Block = np.load(self._folder / f"{client}.npy")  # refuses pickled objects
        return kept

    def put(self, client: str, control: Block) -> None:
        """Keep the client's control variate.

        Raises:
            StorageFullError: the disk is full.
        """
        with full_disk_named(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            np.save(self._folder / f"{client}.npy", control)
        self._known.add(client)
