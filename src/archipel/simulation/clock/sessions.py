"""When a client is available: always, in drawn sessions, or in those of a trace.

    finish(sessions, began=0.0, work=30.0)     # a client works only while it is available, and goes on where it was
    worked(sessions, 0.0, until=20.0)          # seconds of work by then

Any time can be asked without those before it, so nothing is kept of a client.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

PHASE_STREAM, SESSION_STREAM = 0x0F5E7, 0x5E551
"""Streams of what is drawn for a client's sessions."""
CONCENTRATION = 4.0
"""Of the Beta distribution of a session's share of its cycle: at `online` = 0.5 most are between 0.2 and 0.8."""

Session = tuple[float, float]
"""First and last second."""


class Sessions(Protocol):
    """A client's times of being available."""

    def since(self, moment: float) -> Iterator[Session]:
        """Yield the sessions that end after `moment`, in order, without an end; the first may have begun before it."""
        ...


class Always:
    """One session without an end."""

    def since(self, moment: float) -> Iterator[Session]:  # noqa: ARG002 - the port's signature
        """Yield it."""
        yield (0.0, math.inf)


class Cycles:
    """One session at the start of each cycle; a client's cycles begin at an offset of its own.

    A session's share of its cycle is drawn from Beta(4 online, 4 (1 - online)), whose mean is `online`.
    """

    def __init__(self, *, online: float, session_seconds: float, seed: int, client: int) -> None:
        self._online = online
        self._cycle = session_seconds / online
        self._seed = seed
        self._client = client
        self._offset = float(np.random.default_rng((seed, client, PHASE_STREAM)).random()) * self._cycle

    def since(self, moment: float) -> Iterator[Session]:
        """Yield sessions, the first from the cycle that `moment` is in."""
        for cycle in itertools.count(math.floor((moment - self._offset) / self._cycle)):
            begin = self._offset + cycle * self._cycle
            end = begin + self._cycle * self._share(cycle)
            if end > moment:
                yield (begin, end)

    def _share(self, cycle: int) -> float:
        # The cycle at time 0 may have begun before it: it is number -1.
        rng = np.random.default_rng((self._seed, self._client, cycle + 1, SESSION_STREAM))
        return float(rng.beta(CONCENTRATION * self._online, CONCENTRATION * (1 - self._online)))


class Listed:
    """Sessions of a trace, which begins again each `period`."""

    def __init__(self, sessions: Iterable[Session], period: float) -> None:
        self._sessions = merged(sessions)
        self._period = period

    def since(self, moment: float) -> Iterator[Session]:
        """Yield sessions, the first from the turn of the trace that `moment` is in."""
        for turn in itertools.count(math.floor(moment / self._period)):
            shift = turn * self._period
            for begin, end in self._sessions:
                if shift + end > moment:
                    yield (shift + begin, shift + end)


def merged(sessions: Iterable[Session]) -> Sequence[Session]:
    """Return the sessions in order of time, those that overlap or touch as one."""
    found: list[Session] = []
    for begin, end in sorted(sessions):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def available_from(sessions: Sessions, moment: float) -> float:
    """Return the first time from `moment` on at which the client is available."""
    return max(moment, next(sessions.since(moment))[0])


def finish(sessions: Sessions, began: float, work: float) -> float:
    """Return when `work` seconds are done that a client is given at `began`."""
    left = work
    for start, end in sessions.since(began):
        first = max(start, began)
        if left <= end - first:
            return first + left
        left -= end - first
    raise AssertionError("sessions never end")


def worked(sessions: Sessions, began: float, until: float) -> float:
    """Return for how many seconds between the two a client was available."""
    total = 0.0
    for start, end in sessions.since(began):
        if start >= until:
            return total
        total += min(end, until) - max(start, began)
        if end >= until:
            return total
    raise AssertionError("sessions never end")
