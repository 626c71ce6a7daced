"""The port of a timeline: which clients' updates are folded in which round, and when that is.

    closed = timeline.close(step)       # of rounds 1, 2, 3 … in turn
    closed.folded                       # whose updates, and from which round's model each was computed
    timeline.moment                     # all that there is to go on from, as a value

A timeline knows durations, not weights: a round's work is known before any of it is computed, and only what is folded
need be computed at all. At the most it hears clients' losses of the rounds before. Times are seconds from the
simulation's begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a client was given to do."""

    client: int
    step: int
    """The round whose first model it trains from, from 1."""
    ends: float
    """When its update is there."""
    number: int = 0
    """How many assignments there were before: of two that end at the same time the earlier comes first."""
    again: int = 0
    """How many the client was given before from the same model: each draws its own batches."""
    began: float = 0.0
    rows: int = 0


class Waste(msgspec.Struct, frozen=True, kw_only=True):
    """Work that no model has in it."""

    clients: int = 0
    examples: int = 0
    """Their rows, as far as they had come."""
    seconds: float = 0.0
    """Of clients at work, transfers included."""


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """A round that is over."""

    step: int
    made: int
    """Which model comes of it, from 1, where rounds nobody answered are not counted."""
    folded: tuple[Assignment, ...]
    """In the order in which they are added; none: the model stays."""
    asked: int
    """Clients that were given work since the round before."""
    began: float = 0.0
    ended: float = 0.0
    worked_seconds: float = 0.0
    """Of the clients that are folded, transfers included."""
    waste: Waste = Waste()
    slow: int | None = None
    """Of the folded, clients of the slowest tenth; None: clients take too much alike to tell."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a client that took part."""

    client: int
    step: int
    """When it did last."""
    utility: float
    """Its rows times their mean loss."""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a timeline is between two rounds."""

    now: float = 0.0
    made: int = 0
    """Models made."""
    numbered: int = 0
    """Assignments there were."""
    flying: tuple[Assignment, ...] = ()
    """Those that are under way."""
    heard: tuple[Heard, ...] = ()
    """What a selection goes by that listens."""


class Timeline(Protocol):
    """When rounds end, and with whom."""

    @property
    def moment(self) -> Moment:
        """Where it is."""
        ...

    @property
    def listens(self) -> bool:
        """Does it go by clients' losses?"""
        ...

    def close(self, step: int) -> Closed:
        """Go on to the end of round `step`."""
        ...

    def hear(self, step: int, losses: Mapping[int, float]) -> None:
        """Take note of the mean loss of each client folded in round `step`, where it listens."""
        ...
