"""Tagging: words and entities of sequences, from sums that add over sites.

    tagging.examples    words
    tagging.confusion   (tags, tags): words by true tag (row) and predicted tag (column)
    tagging.entities    (types, 3): per entity type in alphabetical order: found rightly, predicted, true

Rows are words in reading order. A row whose label is negative is no word: it ends a sequence and is not counted. An
entity is a run of words as seqeval's default ("conlleval") reads it: B-X begins one, I-X continues one of the same
type or, after anything else, begins one; it counts only with both ends and the type right.

Example:
    >>> tags = Tagging(("O", "B-PER", "I-PER"))
    >>> sums = tags.sums(np.array([1, 2, 0]), np.array([1, 2, 0]))
    >>> tags.summary(sums)["entity_f1"]
    1.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.spec import NonFiniteError, ShapeError
from archipel.tasks.port import Sums

Array = npt.NDArray[Any]
Entity = tuple[int, int, str]
"""First word, word after the last, type."""


class Tagging:
    """The family of tasks that give every word of a sequence one of a few tags."""

    name = "tagging"

    def __init__(self, tags: Sequence[str] = ()) -> None:
        self._tags = tuple(tags)
        self.types = tuple(sorted({tag[2:] for tag in tags if tag[:2] in {"B-", "I-"}}))
        """Entity types, in the order of the rows of "tagging.entities"."""

    def sums(self, scores: Array, labels: Array) -> Sums:
        """Sums over words; scores are (rows, tags), or the chosen tags themselves as integers (rows,)."""
        chosen = self._chosen(np.asarray(scores), np.asarray(labels))
        words = labels >= 0
        count = len(self._tags)
        cells = labels[words] * count + chosen[words]
        confusion = np.bincount(cells, minlength=count * count).reshape(count, count).astype(np.float64)
        return {
            "tagging.examples": np.array(float(words.sum())),
            "tagging.confusion": confusion,
            "tagging.entities": self._entities(chosen, labels),
        }

    def summary(self, sums: Mapping[str, Array]) -> dict[str, float]:
        """Return examples (words), micro and macro F1 over tags, and the entities' precision, recall and F1."""
        confusion = sums["tagging.confusion"]
        right, predicted, true = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
        words = float(sums["tagging.examples"])
        figures = {"examples": words}
        if words:
            present = (predicted + true) > 0
            figures["micro_f1"] = float(right.sum()) / words
            figures["macro_f1"] = float((2 * right[present] / (predicted + true)[present]).mean())
        found, guessed, there = (float(column.sum()) for column in sums["tagging.entities"].T)
        if guessed + there:
            figures["entity_precision"] = found / guessed if guessed else 0.0
            figures["entity_recall"] = found / there if there else 0.0
            figures["entity_f1"] = 2 * found / (guessed + there)
        return figures

    def _chosen(self, scores: Array, labels: Array) -> Array:
        chosen = scores.argmax(axis=1) if scores.ndim == 2 else scores
        wide = scores.ndim == 2 and scores.shape[1] != len(self._tags)
        whole = np.issubdtype(chosen.dtype, np.integer) and np.issubdtype(labels.dtype, np.integer)
        if wide or chosen.ndim != 1 or chosen.shape != labels.shape or not whole:
            raise ShapeError(
                f"scores of shape {scores.shape} for labels of shape {labels.shape} and {len(self._tags)} tags",
                hint="scores are (words, tags) or chosen tags (words,), labels are integers (words,)",
            )
        if scores.ndim == 2 and not np.isfinite(scores).all():
            raise NonFiniteError("the model's scores hold NaN or infinity", hint="lower the learning rate")
        words = labels >= 0
        top = max(labels[words].max(initial=-1), chosen[words].max(initial=-1))
        if top >= len(self._tags) or chosen[words].min(initial=0) < 0:
            raise ShapeError(f"tag {int(top)} is outside the {len(self._tags)} tags", hint="tags count from 0")
        return np.asarray(chosen)

    def _entities(self, chosen: Array, labels: Array) -> Array:
        true = find_entities(self._names(labels, labels))
        guess = find_entities(self._names(chosen, labels))
        counts = np.zeros((len(self.types), 3))
        for column, entities in enumerate((true & guess, guess, true)):
            for _, _, kind in entities:
                counts[self.types.index(kind), column] += 1
        return counts

    def _names(self, codes: Array, labels: Array) -> list[str | None]:
        words = (labels >= 0).tolist()
        return [self._tags[code] if word else None for code, word in zip(codes.tolist(), words, strict=True)]


def find_entities(tags: Sequence[str | None]) -> set[Entity]:
    """Return the entities of a row of tags; None ends a sequence."""
    found: set[Entity] = set()
    start, kind = 0, ""
    for position, tag in enumerate([*tags, None]):
        prefix, current = (tag[:1], tag[2:]) if tag is not None and tag[:2] in {"B-", "I-"} else ("O", "")
        if kind and (prefix != "I" or current != kind):
            found.add((start, position, kind))
            kind = ""
        if current and not kind:
            start, kind = position, current
    return found
