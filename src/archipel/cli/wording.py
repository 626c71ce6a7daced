"""Numbers in words for people: sizes, times, counts; the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping

from archipel.spec import Grade
from archipel.spec.wire import Waits

COUNTS = {"examples", "smallest_class"}
"""Figures that count rows and say nothing of the model."""


def size(count: float) -> str:
    """Return a number of bytes in words.

    >>> size(1_234_567)
    '1.23 MB'
    """
    if count < 999.5:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5:  # what rounds to 1000 is one of the next unit
            return f"{count:.3g} {unit}"
    return f"{count / 1000:.3g} TB"


def duration(seconds: float) -> str:
    """Return a length of time in words.

    >>> duration(83.2)
    '1 min 23 s'
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int) -> str:
    """Return a count with its thousands apart.

    >>> count(336776)
    '336,776'
    """
    return f"{number:,}"


def share(number: float) -> str:
    """Return a share as a percentage.

    >>> share(0.875)
    '88 %'
    """
    return f"{number * 100:.0f} %"


def standstill(waits: Waits) -> str:
    """Return what a site waits for, that has a policy of its own.

    >>> standstill("hours")
    'waits for its hours'
    """
    return {
        "": "",
        "approval": "waits for approval by its own people",
        "hours": "waits for its hours",
        "policy": "waits until its policy is mended",
    }[waits]


def figures(found: Mapping[str, float]) -> str:
    """Return a model's figures, by name.

    >>> figures({"log_loss": 0.02573, "accuracy": 0.99065, "examples": 107.0})
    'accuracy 0.9907, log_loss 0.02573'
    """
    return ", ".join(f"{name} {value:.4g}" for name, value in sorted(found.items()) if name not in COUNTS)


def forecast(grade: Grade) -> tuple[str, str]:
    """Return what was planned, and what came.

    >>> from archipel.spec import Grade
    >>> forecast(Grade(what="the whole run", unit="seconds", planned=(2.0, 90.0), came=12.0))
    ('2.0 s to 1 min 30 s', '12 s')
    """

    def written(value: float) -> str:
        if grade.unit == "bytes":
            return size(value)
        return f"{1000 * value:.0f} ms" if value < 1 else duration(value)

    low, high = map(written, grade.planned)
    return low if low == high else f"{low} to {high}", written(grade.came)
