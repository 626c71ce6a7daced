"""Precision, recall and F1 class by class as text, in the layout of scikit-learn's classification_report."""

from __future__ import annotations

from collections.abc import Iterator

from archipel.spec.views import Breakdown, ClassLine

HEADINGS = ("precision", "recall", "f1-score", "support")
_DIGITS = 4
_WIDTH = 9


def layout(breakdown: Breakdown) -> str:
    """Return the lines of the report, each ended."""
    width = max(len(row[0]) for row in rows(breakdown) if row)
    lines = [" ".join([" " * width + " ", *(f"{heading:>{_WIDTH}}" for heading in HEADINGS)]), ""]
    for row in rows(breakdown):
        cells = [f"{cell:>{_WIDTH}}" for cell in row[1:]]
        lines.append(" ".join([f"{row[0]:>{width}} ", *cells]) if row else "")
    return "\n".join(lines) + "\n"


def rows(breakdown: Breakdown) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each class, an empty row, and the cells of each average."""
    yield from map(_cells, breakdown.classes)
    yield ()
    if breakdown.accuracy is not None:
        total = sum(line.support for line in breakdown.classes)
        yield ("accuracy", "", "", f"{breakdown.accuracy:.{_DIGITS}f}", str(total))
    yield from map(_cells, breakdown.averages)


def _cells(line: ClassLine) -> tuple[str, ...]:
    figures = (line.precision, line.recall, line.f1)
    return (line.name, *(f"{figure:.{_DIGITS}f}" for figure in figures), str(line.support))
