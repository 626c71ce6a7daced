"""Who gets which piece when: pieces go out in order, may come back in any, and are taken in order again.

    dealing = Dealing(pieces=10, window=4)
    dealing.next()                  # 0, then 1, 2, 3, then None: no more than the window is out or waits
    dealing.done(2); dealing.ready()       # None: 0 is not there yet
    dealing.done(0); dealing.ready()       # 0
    dealing.release()               # 0 was taken; piece 4 may go out into its place
    dealing.lost(1)                 # whoever had it died: it goes out again, next

Piece p lies in place p % window, which is free because p goes out only once p - window was taken.
"""

from __future__ import annotations

import heapq
from collections import Counter

LIVES = 3
"""Processes that one piece may cost before the simulation says that the piece is at fault."""


class Dealing:
    """The pieces of one cohort."""

    def __init__(self, *, pieces: int, window: int) -> None:
        self._pieces = pieces
        self._window = window
        self._next = 0
        self._taken = 0
        self._again: list[int] = []
        self._done: set[int] = set()
        self._losses: Counter[int] = Counter()

    @property
    def over(self) -> bool:
        """Whether every piece was taken."""
        return self._taken == self._pieces

    def next(self) -> int | None:
        """Return the piece that goes out now; None: none may."""
        if self._again:
            return heapq.heappop(self._again)
        if self._next >= min(self._pieces, self._taken + self._window):
            return None
        self._next += 1
        return self._next - 1

    def done(self, piece: int) -> None:
        """A piece came back."""
        self._done.add(piece)

    def lost(self, piece: int) -> bool:
        """Let a piece go out again whose process died; return False where it has cost too many."""
        self._losses[piece] += 1
        heapq.heappush(self._again, piece)
        return self._losses[piece] < LIVES

    def ready(self) -> int | None:
        """Return the piece whose turn it is to be taken; None: it is not there yet."""
        return self._taken if self._taken in self._done else None

    def release(self) -> None:
        """The piece that was ready has been taken."""
        self._done.remove(self._taken)
        self._taken += 1
