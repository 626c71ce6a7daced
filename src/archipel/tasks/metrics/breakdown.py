"""From counts to precision, recall and F1, class by class and averaged as scikit-learn's classification_report does.

A figure with nothing to divide by is 0. Micro: the counts of all classes added; macro: every class alike; weighted: by
how many there truly are.

Example:
    >>> break_down("entities", {"LOC": (1, 2, 1), "PER": (2, 2, 2)}, micro=True).averages[0].f1
    0.8571428571428571
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archipel.spec.views import Breakdown, ClassLine

Counts = Sequence[float]
"""Found rightly, predicted, truly there."""


def break_down(what: str, counts: Mapping[str, Counts], *, micro: bool) -> Breakdown:
    """Lay out the counts of each class; `micro`: average the counts too, else give the share that is right."""
    lines = tuple(_line(name, *found) for name, found in counts.items())
    right, predicted, there = (sum(column) for column in zip(*counts.values(), strict=True)) if counts else (0, 0, 0)
    added = (_line("micro avg", right, predicted, there),) if micro else ()
    macro = _mean("macro avg", lines, [1.0] * len(lines))
    weighted = _mean("weighted avg", lines, [line.support for line in lines])
    accuracy = None if micro else _share(right, there)
    return Breakdown(what=what, classes=lines, averages=(*added, macro, weighted), accuracy=accuracy)


def _line(name: str, right: float, predicted: float, there: float) -> ClassLine:
    return ClassLine(
        name=name,
        precision=_share(right, predicted),
        recall=_share(right, there),
        f1=_share(2 * right, predicted + there),
        support=int(there),
    )


def _mean(name: str, lines: Sequence[ClassLine], weights: Sequence[float]) -> ClassLine:
    def mean(figures: Sequence[float]) -> float:
        return _share(sum(weight * figure for weight, figure in zip(weights, figures, strict=True)), sum(weights))

    return ClassLine(
        name=name,
        precision=mean([line.precision for line in lines]),
        recall=mean([line.recall for line in lines]),
        f1=mean([line.f1 for line in lines]),
        support=sum(line.support for line in lines),
    )


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
