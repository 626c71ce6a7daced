"""Spreads a cohort over a crew, as an executor: the same clients, some at the same time.

1. The cohort is cut into pieces of neighbouring clients.
2. Each member of the crew gets a piece, and the next once it has handed that one in.
3. Pieces are handed on in the plans' order, so sums are added in the order of a single process: with the executor
   `loop` the model is the same bit for bit, whatever the number of members.

A member that dies costs its piece again, by another member. Memory is two pieces a member, whatever the cohort.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import msgspec
import numpy as np

from archipel.simulation.spread.bench import Deltas
from archipel.simulation.spread.dealing import LIVES, Dealing
from archipel.simulation.spread.messages import Answer, Piece
from archipel.spec import TaskError
from archipel.tasks.port import LocalPlan, Trained, Weights

WINDOW = 2
"""Pieces that there is room for, for each member: one that it computes, one that waits for its turn."""
SHARE = 4
"""Pieces of a cohort for each member, so that all end at about the same time."""
MOST = 64
"""Clients of a piece."""
ROOM_BYTES = 1 << 30
"""All deltas on their way, unless one client a piece takes more."""


class GoneError(Exception):
    """A member has died."""


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """A piece that was handed in."""

    answer: Answer
    deltas: Deltas
    """Shape (clients, elements); theirs until the piece was handed on, and no longer."""


class Member(Protocol):
    """One of a crew: computes pieces, one at a time."""

    piece: int | None
    """Number of the piece it computes."""

    @property
    def idle(self) -> bool:
        """Whether it waits for a piece."""

    def give(self, piece: Piece) -> None:
        """Let it compute a piece, or raise GoneError."""

    def hear(self) -> Returned | None:
        """Take what it has to say: its piece, nothing but that it has started, or raise GoneError."""

    def end(self) -> None:
        """End it, at once where it is at work."""


MemberT = TypeVar("MemberT", bound=Member)


class Crew(ABC, Generic[MemberT]):
    """An executor that computes with others. What they are, and how weights reach them, subclasses say."""

    def __init__(self, name: str, *, members: int, cohort: int, client_bytes: int) -> None:
        self.name = name
        self._count = members
        self._window = WINDOW * members
        self._size = piece_size(cohort, members, client_bytes)
        self._members: list[MemberT] = []

    @abstractmethod
    def _publish(self, weights: Weights) -> None:
        """Put the round's weights where all members find them."""

    @abstractmethod
    def _hire(self) -> MemberT:
        """Start one more member."""

    @abstractmethod
    def _heard(self, members: Sequence[MemberT]) -> Sequence[MemberT]:
        """Wait until some of these, none of them idle, have something to say."""

    def train(self, weights: Weights, plans: Sequence[LocalPlan]) -> Iterator[Trained]:
        """Yield what each plan comes to from `weights`, in the plans' order.

        Raises:
            ArchipelError: what a client's training raised; of several, the first client's.
            TaskError: three members died over the same clients.
        """
        self._publish(weights)
        pieces = [
            Piece(number=number, manifest=weights.manifest, plans=tuple(plans[start : start + self._size]))
            for number, start in enumerate(range(0, len(plans), self._size))
        ]
        dealing, returned = Dealing(pieces=len(pieces), window=self._window), dict[int, Returned]()
        try:
            while not dealing.over:
                self._hand_out(dealing, pieces)
                ready = dealing.ready()
                if ready is None:
                    self._collect(dealing, pieces, returned)
                    continue
                yield from _results(returned.pop(ready))
                dealing.release()
        finally:
            for member in [member for member in self._members if member.piece is not None]:
                self._drop(member)  # its answer is of a round that is no more

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End every member."""
        for member in self._members:
            member.end()
        self._members.clear()

    def _hand_out(self, dealing: Dealing, pieces: Sequence[Piece]) -> None:
        self._members += [self._hire() for _ in range(self._count - len(self._members))]
        for member in [member for member in self._members if member.idle]:
            number = dealing.next()
            if number is None:
                return
            try:
                member.give(pieces[number])
            except GoneError:
                self._lose(member, dealing, pieces)

    def _collect(self, dealing: Dealing, pieces: Sequence[Piece], returned: dict[int, Returned]) -> None:
        for member in self._heard([member for member in self._members if not member.idle]):
            number = member.piece
            try:
                came = member.hear()
            except GoneError:
                self._lose(member, dealing, pieces)
                continue
            if came is not None:
                assert number is not None
                returned[number] = came
                dealing.done(number)

    def _lose(self, member: MemberT, dealing: Dealing, pieces: Sequence[Piece]) -> None:
        number = member.piece
        self._drop(member)
        if number is not None and not dealing.lost(number):
            plans = pieces[number].plans
            raise TaskError(
                f"{LIVES} processes died over the clients {plans[0].client} to {plans[-1].client}",
                hint="see whether memory suffices (fewer processes need less), or run it with --spread inline",
            )

    def _drop(self, member: MemberT) -> None:
        self._members.remove(member)
        member.end()


def piece_size(cohort: int, members: int, client_bytes: int) -> int:
    """Return how many clients make a piece: fair shares, in bounded memory."""
    fair = -(-cohort // (SHARE * members))
    room = ROOM_BYTES // (WINDOW * members * client_bytes)
    return max(1, min(fair, room, MOST))


def _results(returned: Returned) -> Iterator[Trained]:
    answer = returned.answer
    for told, delta in zip(answer.figures, returned.deltas, strict=False):
        yield Trained(
            delta=np.array(delta),  # a copy: its place is somebody else's soon
            examples=told.examples,
            steps=told.steps,
            loss_sum=told.loss_sum,
            loss_examples=told.loss_examples,
        )
    if answer.failure is not None:
        raise answer.failure.again()
