"""Learning rates by parameter: which multiplier a name gets from {"encoder.": 0.1}; the longest prefix wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from archipel.spec import TaskError


def multipliers_of(names: Iterable[str], prefixes: Mapping[str, float]) -> dict[str, float]:
    """Return name → multiplier of the learning rate; 1 where no prefix fits.

    Raises:
        TaskError: a prefix fits no name.
    """
    names = list(names)
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise TaskError(
                f"parameter_groups() names {prefix!r}, with which no trained parameter begins",
                hint=f"parameters are {', '.join(names[:8])} …",
            )
    found: dict[str, float] = {}
    for name in names:
        fitting = [prefix for prefix in prefixes if name.startswith(prefix)]
        found[name] = float(prefixes[max(fitting, key=len)]) if fitting else 1.0
    return found
