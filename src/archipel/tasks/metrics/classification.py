"""Classification: accuracy, log-loss and AUC from sums that add over sites.

    classification.examples    rows
    classification.correct     rows whose highest score is their label's
    classification.log_loss    sum of -log(score of the label)
    classification.histogram   (ranked classes, 2, 4096): scores of rows that are not / are of the class

AUC is one class against the rest, of class 1 where there are two, else the mean over the classes that have rows of
both kinds. Within a bin the order is unknown: such pairs count one half, as ties do (Mann-Whitney U).

Example:
    >>> sums = Classification().sums(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    >>> Classification().summary(sums)["auc"]
    1.0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.spec import NonFiniteError, ShapeError
from archipel.spec.views import Breakdown
from archipel.tasks.port import Sums

Array = npt.NDArray[Any]

HISTOGRAM = "classification.histogram"
BINS = 4096
RANKED_CLASSES = 64
"""With more classes than this no histograms are made: each costs 64 KB a class at every evaluation."""
SMALLEST = 1e-15
"""Scores are held above this in the log-loss: one confident mistake must not make the sum infinite."""


class Classification:
    """The family of tasks that give every row one of a few classes."""

    name = "classification"

    def __init__(self, *, histograms: bool = True) -> None:
        self._histograms = histograms

    def sums(self, scores: Array, labels: Array) -> Sums:
        """Sums over rows; scores (rows, classes) are probabilities, labels (rows,) integers below classes."""
        scores, labels = _checked(scores, labels)
        rows = np.arange(len(labels))
        own = np.clip(scores[rows, labels], SMALLEST, 1.0)
        sums: Sums = {
            "classification.examples": np.array(float(len(labels))),
            "classification.correct": np.array(float((scores.argmax(axis=1) == labels).sum())),
            "classification.log_loss": np.array(float(-np.log(own).sum())),
        }
        if self._histograms and scores.shape[1] <= RANKED_CLASSES:
            sums[HISTOGRAM] = _histograms(scores, labels)
        return sums

    def summary(self, sums: Mapping[str, Array]) -> dict[str, float]:
        """Return examples, accuracy and log_loss; from histograms also auc and smallest_class (its rows)."""
        examples = float(sums["classification.examples"])
        figures = {"examples": examples}
        if examples:
            figures["accuracy"] = float(sums["classification.correct"]) / examples
            figures["log_loss"] = float(sums["classification.log_loss"]) / examples
        if examples and HISTOGRAM in sums:
            histogram = sums[HISTOGRAM]
            rows = histogram[0].sum(axis=1) if len(histogram) == 1 else histogram[:, 1].sum(axis=1)
            figures["smallest_class"] = float(rows.min())
            areas = [area_under(others, own) for others, own in sums[HISTOGRAM]]
            known = [area for area in areas if area is not None]
            if known:
                figures["auc"] = sum(known) / len(known)
        return figures

    def breakdowns(self, sums: Mapping[str, Array]) -> tuple[Breakdown, ...]:  # noqa: ARG002
        """None: the sums do not name the classes."""
        return ()


def area_under(others: Array, own: Array) -> float | None:
    """Return the AUC of two score histograms (lowest bin first); None where one of them is empty."""
    total_others, total_own = float(others.sum()), float(own.sum())
    if not total_others or not total_own:
        return None
    below = np.cumsum(others) - others
    return float((own * (below + 0.5 * others)).sum() / (total_others * total_own))


def _checked(scores: Array, labels: Array) -> tuple[Array, Array]:
    scores = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ShapeError(
            f"scores of shape {scores.shape} for labels of shape {labels.shape} ({labels.dtype})",
            hint="scores are (rows, classes), labels are integers (rows,)",
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= scores.shape[1]):
        raise ShapeError(
            f"a label is outside the {scores.shape[1]} classes of the model",
            hint="labels count from 0; compare the task's classes with the model's outputs",
        )
    if not np.isfinite(scores).all():
        raise NonFiniteError(
            "the model's scores hold NaN or infinity", hint="lower the learning rate or clip gradients"
        )
    return scores, labels


def _histograms(scores: Array, labels: Array) -> Array:
    classes = scores.shape[1]
    ranked = (1,) if classes == 2 else range(classes)
    result = np.zeros((len(ranked), 2, BINS))
    for place, column in enumerate(ranked):
        bins = np.clip((scores[:, column] * BINS).astype(np.int64), 0, BINS - 1)
        is_own = labels == column
        result[place, 0] = np.bincount(bins[~is_own], minlength=BINS)
        result[place, 1] = np.bincount(bins[is_own], minlength=BINS)
    return result
