"""What virtual time came to: of a round, and of all rounds together.

TimeReport.of([record.simulated for record in records]).staleness_mean
reached(records, "accuracy")       # simulated seconds until the figure was as good as at the end
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Self

import msgspec
import numpy as np

from archipel.simulation.clock.port import Closed


class RoundTime(msgspec.Struct, frozen=True, kw_only=True):
    """The time of one round."""

    at_seconds: float
    """Simulated time at its end, from the simulation's begin."""
    seconds: float
    """How long it was."""
    asked: int
    """Clients that were given work in it."""
    staleness: tuple[int, ...]
    """Updates by age: how many were of clients that began with the last model, one before that, …; (): none."""
    worked_seconds: float
    """Of the clients that were folded."""
    wasted_clients: int
    wasted_examples: int
    """Rows they had trained on when their work was thrown away."""
    wasted_seconds: float
    """Seconds of their work, transfers included."""
    slow: int | None = None
    """Updates of clients of the slowest tenth; None: clients take too much alike to tell."""

    @classmethod
    def of(cls, closed: Closed) -> Self:
        """Describe a round."""
        return cls(
            at_seconds=closed.ended,
            seconds=closed.ended - closed.began,
            asked=closed.asked,
            staleness=tuple(np.bincount([closed.step - one.step for one in closed.folded]).tolist()),
            worked_seconds=closed.worked_seconds,
            wasted_clients=closed.waste.clients,
            wasted_examples=closed.waste.examples,
            wasted_seconds=closed.waste.seconds,
            slow=closed.slow,
        )


class TimeReport(msgspec.Struct, frozen=True, kw_only=True):
    """The time of a simulation."""

    seconds: float
    """Simulated, from its begin to the last model."""
    rounds: int
    empty_rounds: int
    """Rounds that nobody made."""
    staleness_mean: float | None
    """Over all updates folded; None: there was none."""
    staleness_max: int | None
    staleness: tuple[int, ...]
    """Updates by age."""
    worked_seconds: float
    wasted_clients: int
    wasted_examples: int
    wasted_seconds: float
    slow_share: float | None = None
    """Share of the updates that are of clients of the slowest tenth (fair: 0.1); None: too much alike to tell."""

    @classmethod
    def of(cls, rounds: Sequence[RoundTime]) -> Self:
        """Add the rounds up."""
        by_age = itertools.zip_longest(*(one.staleness for one in rounds), fillvalue=0)
        staleness = tuple(sum(counts) for counts in by_age)
        updates = sum(staleness)
        slow = [one.slow for one in rounds if one.slow is not None]
        return cls(
            seconds=rounds[-1].at_seconds if rounds else 0.0,
            rounds=len(rounds),
            empty_rounds=sum(not one.staleness for one in rounds),
            staleness_mean=sum(age * count for age, count in enumerate(staleness)) / updates if updates else None,
            staleness_max=len(staleness) - 1 if updates else None,
            staleness=staleness,
            worked_seconds=sum(one.worked_seconds for one in rounds),
            wasted_clients=sum(one.wasted_clients for one in rounds),
            wasted_examples=sum(one.wasted_examples for one in rounds),
            wasted_seconds=sum(one.wasted_seconds for one in rounds),
            slow_share=sum(slow) / updates if updates and slow else None,
        )

    @property
    def wasted_share(self) -> float:
        """Share of all clients' seconds of work that no model has in it."""
        return self.wasted_seconds / max(self.worked_seconds + self.wasted_seconds, 1e-300)


def reached(course: Sequence[tuple[float, float]], *, lower_is_better: bool) -> float | None:
    """Return the time of the first (time, figure) at which the figure is as good as the last one; None: no figure."""
    if not course:
        return None
    sign = -1.0 if lower_is_better else 1.0
    last = sign * course[-1][1]
    return next(at for at, figure in course if sign * figure >= last)
