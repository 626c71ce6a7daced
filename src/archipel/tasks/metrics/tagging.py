"""Tagging: words and entities of sequences, from sums that add over sites.

    tagging.examples        words
    tagging.words.TAG       (3,): words of this tag: found rightly, predicted, true
    tagging.entities.TYPE   (3,): entities of this type: found rightly, predicted, true

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

from archipel.spec import NonFiniteError, ShapeError, SpecError
from archipel.spec.views import Breakdown
from archipel.tasks.metrics.breakdown import break_down
from archipel.tasks.port import Sums

Array = npt.NDArray[Any]
WORDS, ENTITIES = "tagging.words.", "tagging.entities."
Entity = tuple[int, int, str]
"""First word, word after the last, type."""


class Tagging:
    """The family of tasks that give every word of a sequence one of a few tags."""

    name = "tagging"

    def __init__(self, tags: Sequence[str] = ()) -> None:
        self._tags = tuple(tags)
        self._types = sorted({tag[2:] for tag in tags if _is_entity(tag)})
        bad = [tag for tag in tags if "|" in tag]
        if bad:
            raise SpecError(f"a tag is named {bad[0]!r}", hint="name tags without a bar, as in B-LOC")

    def sums(self, scores: Array, labels: Array) -> Sums:
        """Sums over words; scores are (rows, tags), or the chosen tags themselves as integers (rows,)."""
        chosen = self._chosen(np.asarray(scores), np.asarray(labels))
        words = labels >= 0
        true, guess = labels[words], chosen[words]
        columns = [np.bincount(part, minlength=len(self._tags)) for part in (true[true == guess], guess, true)]
        counts = np.stack(columns, axis=1).astype(np.float64)
        by_tag = {f"{WORDS}{tag}": counts[code] for code, tag in enumerate(self._tags)}
        return {"tagging.examples": np.array(float(words.sum()))} | by_tag | self._entities(chosen, labels)

    def summary(self, sums: Mapping[str, Array]) -> dict[str, float]:
        """Return examples (words), micro and macro F1 over tags, and the entities' precision, recall and F1."""
        words = float(sums["tagging.examples"])
        figures = {"examples": words}
        if words:
            by_tag = list(_under(WORDS, sums).values())
            right = sum(float(found[0]) for found in by_tag)
            present = [2 * found[0] / (found[1] + found[2]) for found in by_tag if found[1] + found[2]]
            figures["micro_f1"] = right / words
            figures["macro_f1"] = float(np.mean(present))
        found, guessed, there = np.sum([np.zeros(3), *_under(ENTITIES, sums).values()], axis=0).tolist()
        if guessed + there:
            figures["entity_precision"] = found / guessed if guessed else 0.0
            figures["entity_recall"] = found / there if there else 0.0
            figures["entity_f1"] = 2 * found / (guessed + there)
        return figures

    def breakdowns(self, sums: Mapping[str, Array]) -> tuple[Breakdown, ...]:
        """Words by tag, those of an entity type side by side, and entities by type."""
        words = sorted(_under(WORDS, sums).items(), key=lambda item: _place(item[0]))
        entities = _under(ENTITIES, sums)
        return (
            break_down("words", {tag: found.tolist() for tag, found in words}, micro=False),
            break_down("entities", {kind: found.tolist() for kind, found in entities.items()}, micro=True),
        )

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

    def _entities(self, chosen: Array, labels: Array) -> Sums:
        true = find_entities(self._names(labels, labels))
        guess = find_entities(self._names(chosen, labels))
        counts = {f"{ENTITIES}{kind}": np.zeros(3) for kind in self._types}
        for column, entities in enumerate((true & guess, guess, true)):
            for _, _, kind in entities:
                counts[f"{ENTITIES}{kind}"][column] += 1
        return counts

    def _names(self, codes: Array, labels: Array) -> list[str | None]:
        words = (labels >= 0).tolist()
        return [self._tags[code] if word else None for code, word in zip(codes.tolist(), words, strict=True)]


def end_to_end(scores: Array, labels: Array) -> tuple[Array, Array]:
    """Lay sequences (rows, length[, tags]) end to end, a negative label after each."""
    if labels.ndim != 2 or scores.shape[:2] != labels.shape:
        raise ShapeError(
            f"tag scores {scores.shape} for labels {labels.shape}",
            hint="scores (rows, length, tags), labels (rows, length)",
        )
    chosen = scores.argmax(axis=2) if scores.ndim == 3 else scores
    ended = np.pad(labels.astype(np.int64), ((0, 0), (0, 1)), constant_values=-1)
    return np.pad(chosen, ((0, 0), (0, 1))).ravel(), ended.ravel()


def _is_entity(tag: str) -> bool:
    return tag[:2] in {"B-", "I-"}


def _place(tag: str) -> tuple[bool, str, str]:
    """Sort tags by entity type, those of none last."""
    return (False, tag[2:], tag) if _is_entity(tag) else (True, tag, "")


def _under(prefix: str, sums: Mapping[str, Array]) -> dict[str, Array]:
    """Return the sums whose names begin so, by the rest of their names, sorted."""
    return {key.removeprefix(prefix): sums[key] for key in sorted(sums) if key.startswith(prefix)}


def find_entities(tags: Sequence[str | None]) -> set[Entity]:
    """Return the entities of a row of tags; None ends a sequence."""
    found: set[Entity] = set()
    start, kind = 0, ""
    for position, tag in enumerate([*tags, None]):
        prefix, current = (tag[:1], tag[2:]) if tag is not None and _is_entity(tag) else ("O", "")
        if kind and (prefix != "I" or current != kind):
            found.add((start, position, kind))
            kind = ""
        if current and not kind:
            start, kind = position, current
    return found
