"""Rows as the other benchmarks write them, with the versions that made them."""

from __future__ import annotations

import platform
from importlib.metadata import version

from rounds.result import Row
from simulation.peer import VERSIONS


def row(name: str, value: float, unit: str, *, at_most: float | None = None, at_least: float | None = None) -> Row:
    """Return a row, held against its goal where it has one."""
    goal, met = "", None
    if at_most is not None:
        goal, met = f"<= {at_most:g}", value <= at_most
    if at_least is not None:
        goal, met = f">= {at_least:g}", value >= at_least
    if met is not None:
        print(f"goal: {name} {goal} {unit}: {value:.3g}, {'met' if met else 'NOT met'}", flush=True)
    ours = {name: version(name) for name in ("archipel", "numpy", "torch", "jax")}
    versions = {**ours, **VERSIONS, "python": platform.python_version()}
    return Row(name=name, value=round(value, 4), unit=unit, goal=goal, met=met, versions=versions)
