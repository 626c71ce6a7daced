"""Where a cohort is computed, as people write it: `inline`, `processes` (one a core) or `processes:4`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archipel.simulation.spread.messages import Opening
from archipel.simulation.spread.processes import Processes
from archipel.spec import SpecError
from archipel.tasks.port import Executor, Vector

INLINE = "inline"


def processes_of(spread: str) -> int | None:
    """Return how many processes `spread` asks for; None: this one alone.

    Raises:
        SpecError: it says neither.
    """
    if spread == INLINE:
        return None
    found = re.fullmatch(r"processes(?::([1-9]\d{0,2}))?", spread)
    if found is None:
        hint = "write inline, processes (one a core) or processes:N with N from 1 to 999"
        raise SpecError(f"a simulation cannot be spread over {spread!r}", hint=hint)
    return int(found[1]) if found[1] else cores()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def spread_over(
    count: int | None, executor: Executor, opening: Opening, *, like: Vector, cohort: int, place: Path
) -> Iterator[Executor]:
    """Give the executor itself, or for a count one that computes by it in so many processes."""
    if count is None:
        yield executor
        return
    with Processes(opening, count=count, like=like, cohort=cohort, place=place) as spread:
        yield spread
