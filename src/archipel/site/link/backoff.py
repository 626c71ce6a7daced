"""Backoff: how long to wait before the next attempt, doubling, with jitter, for as long as it takes.

The jitter spreads the attempts of many sites after control was away; randomness comes in as an argument.

Example:
    >>> waits = Backoff(lambda: 1.0, first_seconds=0.1, most_seconds=1.0)
    >>> [waits.next_seconds() for _ in range(5)]
    [0.1, 0.2, 0.4, 0.8, 1.0]
"""

from __future__ import annotations

from collections.abc import Callable

FIRST_SECONDS = 0.1
MOST_SECONDS = 5.0


class Backoff:
    """Waits of min(most, first * 2^attempt), each shortened by up to a half at random."""

    def __init__(
        self, random: Callable[[], float], *, first_seconds: float = FIRST_SECONDS, most_seconds: float = MOST_SECONDS
    ) -> None:
        self._random = random
        self._first = first_seconds
        self._most = most_seconds
        self._wait = first_seconds

    def next_seconds(self) -> float:
        """Return the next wait."""
        wait = self._wait
        self._wait = min(self._most, wait * 2)
        return wait * (0.5 + self._random() / 2)

    def reset(self) -> None:
        """Begin again from the first wait: something worked."""
        self._wait = self._first
