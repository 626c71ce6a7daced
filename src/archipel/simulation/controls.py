"""What virtual clients remember from one round they train in to the next: SCAFFOLD's control variates, on disk.

Only clients that have trained have a file, so neither memory nor disk grows with the population. A file says of which
round it is, and the one before stays until `settle`: whoever goes on from an earlier round finds what was true then.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from archipel.data.stores.spool import full_disk_named
from archipel.federated.port import Block


class Controls:
    """Client → its control variate."""

    def __init__(self, folder: Path, after: int = 0) -> None:
        """Keep what the rounds up to `after` left in the folder; nothing for 0."""
        self._folder = folder
        self._made: dict[str, int] = {}
        self._passed: list[Path] = []
        if after == 0:
            shutil.rmtree(folder, ignore_errors=True)
        for path in sorted(folder.glob("*.npy")):
            client, _, step = path.stem.rpartition("@")
            if int(step) > after:
                path.unlink()
            else:
                self._note(client, int(step))
        self.settle()

    def get(self, client: str) -> Block | None:
        """Return what the client kept; None: it has not trained yet."""
        if client not in self._made:
            return None
        kept: Block = np.load(self._path(client, self._made[client]))  # refuses pickled objects
        return kept

    def put(self, client: str, control: Block, step: int) -> None:
        """Keep the client's control variate as of round `step`.

        Raises:
            StorageFullError: the disk is full.
        """
        with full_disk_named(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            np.save(self._path(client, step), control)
        self._note(client, step)

    def settle(self) -> None:
        """Drop what newer rounds have replaced: nobody goes on from before them."""
        for path in self._passed:
            path.unlink(missing_ok=True)
        self._passed.clear()

    def _note(self, client: str, step: int) -> None:
        known = self._made.get(client, step)
        if known != step:
            self._passed.append(self._path(client, min(known, step)))
        self._made[client] = max(known, step)

    def _path(self, client: str, step: int) -> Path:
        return self._folder / f"{client}@{step}.npy"
