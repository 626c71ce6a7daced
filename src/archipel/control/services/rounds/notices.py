"""Notices: tells whoever watches a run that something about it has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Told = Callable[[], None]


class Notices:
    """Watchers of runs; they are called on any thread and must return at once."""

    def __init__(self) -> None:
        self._watchers: dict[str, list[Told]] = {}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def changed(self, run: str) -> None:
        """Something about the run has changed."""
        with self._lock:
            self._counts[run] = self._counts.get(run, 0) + 1
            told = list(self._watchers.get(run, ()))
        for call in told:
            call()

    def count(self, run: str) -> int:
        """Return how often the run has changed since this process began."""
        with self._lock:
            return self._counts.get(run, 0)

    @contextmanager
    def watch(self, run: str, told: Told) -> Iterator[None]:
        """Have `told` called at every change until the block ends."""
        with self._lock:
            self._watchers.setdefault(run, []).append(told)
        try:
            yield
        finally:
            with self._lock:
                self._watchers[run].remove(told)
                if not self._watchers[run]:
                    del self._watchers[run]
