"""Spreads a cohort over processes of this machine, as an executor: the same clients, some at the same time.

    with Processes(opening, count=8, like=weights.vector, cohort=50, place=folder) as executor:
        for trained in executor.train(weights, plans): ...      # in the plans' order

1. The cohort is cut into pieces of neighbouring clients.
2. Each process gets a piece, writes its deltas into a mapped file, and gets the next.
3. Pieces are handed on in the plans' order, so sums are added in the order of a single process: with the executor
   `loop` the model is the same bit for bit, whatever the number of processes.

A process that dies costs its piece again, in a new process. Memory is two pieces a process, whatever the cohort.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from archipel.data.stores.spool import full_disk_named
from archipel.simulation.spread.dealing import LIVES, Dealing
from archipel.simulation.spread.member import Member
from archipel.simulation.spread.messages import Answer, Opening, Piece, Vectors
from archipel.spec import TaskError
from archipel.tasks.port import LocalPlan, Trained, Vector, Weights

WINDOW = 2
"""Pieces a process has room for: one that it computes, one that waits for its turn."""
SHARE = 4
"""Pieces of a cohort for each process, so that all end at about the same time."""
MOST = 64
"""Clients of a piece."""
ROOM_BYTES = 1 << 30
"""All deltas on their way, unless one client a piece takes more."""


class Processes:
    """An executor that computes with others, each in a process of its own."""

    def __init__(self, opening: Opening, *, count: int, like: Vector, cohort: int, place: Path) -> None:
        """Reserve the mapped file in `place`; processes start with the first round.

        Raises:
            StorageFullError: the disk is full.
        """
        self.name = opening.executor
        self._opening = opening
        self._count = count
        self._size = piece_size(cohort, count, like.nbytes)
        self._vectors = Vectors(
            path=str(place / "vectors"),
            rows=1 + WINDOW * count * self._size,
            elements=like.size,
            dtype=like.dtype.str,
        )
        reserve(Path(self._vectors.path), self._vectors.rows * like.nbytes)
        self._mapped = self._vectors.map()
        self._members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for member in self._members:
            member.end()
        self._members.clear()
        Path(self._vectors.path).unlink(missing_ok=True)

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes; none before the first round."""
        return [member.pid for member in self._members]

    def train(self, weights: Weights, plans: Sequence[LocalPlan]) -> Iterator[Trained]:
        """Yield what each plan comes to from `weights`, in the plans' order.

        Raises:
            ArchipelError: what a client's training raised; of several, the first client's.
            TaskError: three processes died over the same clients.
        """
        self._mapped[0] = weights.vector
        window = WINDOW * self._count
        pieces = [
            Piece(
                number=number,
                manifest=weights.manifest,
                row=1 + number % window * self._size,
                plans=tuple(plans[start : start + self._size]),
            )
            for number, start in enumerate(range(0, len(plans), self._size))
        ]
        dealing, answers = Dealing(pieces=len(pieces), window=window), dict[int, Answer]()
        try:
            while not dealing.over:
                self._hand_out(dealing, pieces)
                ready = dealing.ready()
                if ready is None:
                    self._collect(dealing, pieces, answers)
                    continue
                yield from self._results(pieces[ready], answers.pop(ready))
                dealing.release()
        finally:
            for member in [member for member in self._members if member.piece is not None]:
                self._drop(member)  # its answer is of a round that is no more

    def _hand_out(self, dealing: Dealing, pieces: Sequence[Piece]) -> None:
        self._members += [Member(self._opening, self._vectors) for _ in range(self._count - len(self._members))]
        for member in [member for member in self._members if member.piece is None]:
            number = dealing.next()
            if number is None:
                return
            try:
                member.give(pieces[number])
            except OSError:
                self._lose(member, dealing, pieces)

    def _collect(self, dealing: Dealing, pieces: Sequence[Piece], answers: dict[int, Answer]) -> None:
        """Wait until a process answers or dies."""
        busy = [member for member in self._members if member.piece is not None]
        heard = wait([member.connection for member in busy])
        for member in [member for member in busy if member.connection in heard]:
            number = member.piece
            assert number is not None
            try:
                answers[number] = member.answer()
            except (EOFError, OSError):
                self._lose(member, dealing, pieces)
            else:
                dealing.done(number)

    def _lose(self, member: Member, dealing: Dealing, pieces: Sequence[Piece]) -> None:
        number = member.piece
        assert number is not None
        self._drop(member)
        if not dealing.lost(number):
            plans = pieces[number].plans
            raise TaskError(
                f"{LIVES} processes died over the clients {plans[0].client} to {plans[-1].client}",
                hint="see whether memory suffices (fewer processes need less), or run it with --spread inline",
            )

    def _drop(self, member: Member) -> None:
        self._members.remove(member)
        member.end()

    def _results(self, piece: Piece, answer: Answer) -> Iterator[Trained]:
        for row, told in enumerate(answer.figures, start=piece.row):
            yield Trained(
                delta=np.array(self._mapped[row]),  # a copy: the row is somebody else's soon
                examples=told.examples,
                steps=told.steps,
                loss_sum=told.loss_sum,
                loss_examples=told.loss_examples,
            )
        if answer.failure is not None:
            raise answer.failure.again()


def piece_size(cohort: int, processes: int, client_bytes: int) -> int:
    """Return how many clients make a piece: fair shares, in bounded memory."""
    fair = -(-cohort // (SHARE * processes))
    room = ROOM_BYTES // (WINDOW * processes * client_bytes)
    return max(1, min(fair, room, MOST))


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
