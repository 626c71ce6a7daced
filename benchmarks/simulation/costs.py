"""What a turn costs, and rows of what was measured against goals."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rounds.measure import ContenderError


@dataclass(frozen=True)
class Cost:
    """CPU seconds (user and system, of all a contender's processes) and wall seconds."""

    cpu: float
    wall: float


Turn = Callable[[int], Cost]
"""Does the round of this number, from 1."""


def timed(work: Callable[[int], None]) -> Turn:
    """Let work in this process be a turn."""

    def turn(step: int) -> Cost:
        cpu, wall = time.process_time(), time.perf_counter()
        work(step)
        return Cost(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall)

    return turn


def take_turns(turns: Mapping[str, Turn], rounds: int) -> dict[str, list[Cost]]:
    """Let contenders do one round after another, each in its turn; one that fails is named and left out."""
    costs: dict[str, list[Cost]] = {name: [] for name in turns}
    for step in range(1, rounds + 1):
        for name in list(costs):
            try:
                costs[name].append(turns[name](step))
            except ContenderError as error:
                print(f"LEFT OUT in round {step}: {error}", flush=True)
                del costs[name]
    return costs


def median(costs: list[Cost]) -> Cost:
    """Return the medians."""
    cpu, wall = ([getattr(cost, name) for cost in costs] for name in ("cpu", "wall"))
    return Cost(cpu=statistics.median(cpu), wall=statistics.median(wall))


def typical(costs: list[Cost]) -> Cost:
    """Return the medians without the first, which compiles and fills caches."""
    return median(costs[1:] or costs)


def total(costs: list[Cost]) -> Cost:
    """Return the sums."""
    return Cost(cpu=sum(cost.cpu for cost in costs), wall=sum(cost.wall for cost in costs))


@contextmanager
def section(title: str) -> Iterator[None]:
    """Print a title, and an empty line at the end."""
    print(title, flush=True)
    yield
    print(flush=True)
