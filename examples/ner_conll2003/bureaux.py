"""Deals articles out to news bureaux, always whole articles.

By dateline: a place with enough training articles is a bureau of its own;
smaller places are grouped by region; articles with no dateline, or one from a
place that the table does not know, go to the ``desk``. The same rule, fixed on
the training articles, is applied to validation and test.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .conll import Document
from .places import region

DESK = "desk"
LOOK_AT = 6  # sentences; the dateline is the second or third
_DATE = re.compile(r"199[67]-\d\d-\d\d")

KINDS = ("LOC", "MISC", "ORG", "PER", "none")


def dateline(document: Document) -> str | None:
    """The place before the date, or None where the article has no dateline."""
    above = ""
    for sentence in document.sentences[:LOOK_AT]:
        if _DATE.fullmatch(sentence.words[-1]) and len(sentence.words) <= 8:
            # Some places stand on the line above a date of its own.
            return " ".join(sentence.words[:-1]) or above
        above = " ".join(sentence.words)
    return None


def slug(place: str) -> str:
    """``NEW YORK`` as a folder name."""
    return re.sub(r"[^a-z]+", "-", place.lower()).strip("-")


@dataclass(frozen=True)
class DatelineRule:
    """Places with a bureau of their own; all else is grouped by region."""

    own: frozenset[str]

    @classmethod
    def from_training(cls, documents: Sequence[Document], at_least: int) -> DatelineRule:
        """Give every place with ``at_least`` training articles its own bureau."""
        counts = Counter(place for place in map(dateline, documents) if place)
        return cls(frozenset(place for place, count in counts.items() if count >= at_least))

    def bureau(self, document: Document) -> str:
        """The one bureau this article belongs to."""
        place = dateline(document)
        if place is None:
            return DESK
        return slug(place) if place in self.own else region(place) or DESK

    def split(self, documents: Sequence[Document]) -> dict[str, list[Document]]:
        """Every document under its bureau, in the order given."""
        result: dict[str, list[Document]] = {}
        for document in documents:
            result.setdefault(self.bureau(document), []).append(document)
        return result


def dirichlet_split(
    parts: Mapping[str, Sequence[Document]], sites: int, alpha: float, seed: int
) -> dict[str, dict[str, list[Document]]]:
    """Deal out by subject: each kind of article goes to the bureaux in Dirichlet shares, alike in every part.

    An article's kind is the entity type it has most of. A small `alpha` gives each bureau few kinds.
    """
    rng = random.Random(seed)  # noqa: S311 (a draw that can be repeated, no secret)
    names = [f"bureau-{number:02d}" for number in range(1, sites + 1)]
    shares = {kind: [rng.gammavariate(alpha, 1.0) + 1e-12 for _ in names] for kind in KINDS}
    result: dict[str, dict[str, list[Document]]] = {}
    for part, documents in parts.items():
        dealt = result.setdefault(part, {name: [] for name in names})
        for document in documents:
            dealt[rng.choices(names, shares[kind_of(document)])[0]].append(document)
    return result


def kind_of(document: Document) -> str:
    """Return the entity type that an article has most of, or "none"."""
    counts = Counter(tag[2:] for s in document.sentences for tag in s.tags if tag.startswith("B-"))
    return min(counts, key=lambda kind: (-counts[kind], kind)) if counts else "none"
