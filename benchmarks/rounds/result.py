"""What is measured, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

MEGABYTE = 1_000_000


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A model of so many float32 parameters goes to every site and comes back, for some rounds."""

    name: str
    parameters: int
    rounds: int
    sites: int = 4

    @property
    def model_bytes(self) -> int:
        """Bytes of the model, one way to one site."""
        return 4 * self.parameters


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of a workload cost a contender."""

    cpu_seconds: float
    """User and system time of all its processes, for one round."""
    peak_bytes: dict[str, int]
    """Process → largest resident memory."""


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """Who is measured, and how much of it."""

    measure: Callable[[Workload, Path], Cost]
    rounds: dict[str, int]
    """Workload → rounds that are counted."""
    repeats: int | None = None
    """None: as often as asked for."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table and of the JSON file."""

    name: str
    value: float
    unit: str
    goal: str
    """Such as "<= 0.1"; empty where nothing is asked."""
    met: bool | None
    versions: dict[str, str]
