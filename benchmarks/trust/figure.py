"""One measured figure, and the clock it is taken with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """What one turn has found."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    """The goal: at the most so much."""


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds, user and system, of this process while it works."""
    before = time.process_time()
    work()
    return time.process_time() - before


def childrens_cpu_seconds() -> float:
    """Return those of all children that have ended and been waited for."""
    spent = os.times()
    return spent.children_user + spent.children_system
