"""A crew of processes of this machine.

with Processes(opening, count=8, like=weights.vector, cohort=50, place=folder) as executor:
    for trained in executor.train(weights, plans): ...      # in the plans' order

Weights and deltas lie in one file that all of them map.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType

from archipel.data.stores.spool import full_disk_named
from archipel.simulation.spread.crew import Crew
from archipel.simulation.spread.member import ProcessMember
from archipel.simulation.spread.messages import Opening, Vectors
from archipel.tasks.port import Vector, Weights


class Processes(Crew[ProcessMember]):
    """Members are processes."""

    def __init__(self, opening: Opening, *, count: int, like: Vector, cohort: int, place: Path) -> None:
        """Reserve the mapped file in `place`; processes start with the first round.

        Raises:
            StorageFullError: the disk is full.
        """
        super().__init__(opening.executor, members=count, cohort=cohort, client_bytes=like.nbytes)
        self._opening = opening
        self._vectors = Vectors(
            path=str(place / "vectors"),
            window=self._window,
            size=self._size,
            elements=like.size,
            dtype=like.dtype.str,
        )
        reserve(Path(self._vectors.path), self._vectors.rows * like.nbytes)
        self._mapped = self._vectors.map()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End every process and remove the mapped file."""
        super().__exit__(kind, error, at)
        Path(self._vectors.path).unlink(missing_ok=True)

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes; none before the first round."""
        return [member.pid for member in self._members]

    def _publish(self, weights: Weights) -> None:
        self._mapped[0] = weights.vector

    def _hire(self) -> ProcessMember:
        return ProcessMember(self._opening, self._vectors, self._mapped)

    def _heard(self, members: Sequence[ProcessMember]) -> Sequence[ProcessMember]:
        heard = wait([member.connection for member in members])
        return [member for member in members if member.connection in heard]


def reserve(path: Path, size_bytes: int) -> None:
    """Make a file of this size whose space is really there: a mapped page without it would kill the process.

    Raises:
        StorageFullError: it is not.
    """
    with full_disk_named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size_bytes)
            else:
                file.truncate(size_bytes)
