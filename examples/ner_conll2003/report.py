"""The word-level and the entity-level report, computed from sums that were added over sites.

    python -m examples.ner_conll2003.report .archipel/ner-conll2003      # the folder of a finished run

Words: from the table of true by predicted tags ("tagging.confusion"), in the layout of scikit-learn's
classification_report; its accuracy is the micro F1 over all nine tags. Entities: from found, predicted and true
entities of each type ("tagging.entities"); one is found when its type and both ends agree, as seqeval counts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from archipel.spec import ArchipelError, unpack

from .conll import TAGS

Counts = npt.NDArray[np.float64]
KINDS = ("LOC", "MISC", "ORG", "PER")
FEDERATED = "federated|"
LARGEST_SUMS = 1 << 20  # bytes; a larger file holds weights


@dataclass(frozen=True)
class Line:
    """Precision, recall, F1 and how many were present."""

    precision: float
    recall: float
    f1: float
    support: int

    @classmethod
    def of(cls, found: float, guessed: float, present: float) -> Line:
        """A figure with nothing to divide by is 0."""
        both = guessed + present
        return cls(
            found / guessed if guessed else 0.0,
            found / present if present else 0.0,
            2 * found / both if both else 0.0,
            int(present),
        )

    @classmethod
    def mean(cls, lines: Sequence[Line], weights: Sequence[float]) -> Line:
        """Weighted mean of the three figures; the supports are added."""
        total = sum(weights)
        columns = [(x.precision, x.recall, x.f1) for x in lines]
        if not total:
            return cls(0.0, 0.0, 0.0, 0)
        p, r, f = (
            sum(w * c for w, c in zip(weights, column, strict=True)) / total for column in zip(*columns, strict=True)
        )
        return cls(p, r, f, sum(x.support for x in lines))


def word_lines(table: Counts) -> dict[str, Line]:
    """One line a tag, ``O`` included."""
    return {tag: Line.of(table[i, i], table[:, i].sum(), table[i].sum()) for i, tag in enumerate(TAGS)}


def entity_lines(table: Counts) -> dict[str, Line]:
    """One line an entity type."""
    return {kind: Line.of(*table[i]) for i, kind in enumerate(KINDS)}


def summary(words: Counts, entities_found: Counts) -> dict[str, float]:
    """The three headline figures."""
    return {
        "word_micro_f1": float(np.trace(words) / max(words.sum(), 1)),
        "word_macro_f1": _averages(word_lines(words))["macro avg"].f1,
        "entity_f1": Line.of(*entities_found.sum(axis=0)).f1,
    }


def word_report(table: Counts, digits: int = 4) -> str:
    """The nine-tag report with accuracy, macro and weighted average."""
    lines = word_lines(table)
    accuracy = np.trace(table) / max(table.sum(), 1)
    blank = f"{'accuracy':>12}  {'':>9} {'':>9} {accuracy:>9.{digits}f} {int(table.sum()):>9}"
    return _layout(lines, digits, blank, _averages(lines))


def entity_report(table: Counts, digits: int = 4) -> str:
    """The four-type report with micro, macro and weighted average."""
    lines = entity_lines(table)
    averages = {"micro avg": Line.of(*table.sum(axis=0)), **_averages(lines)}
    return _layout(lines, digits, None, averages)


def _averages(lines: Mapping[str, Line]) -> dict[str, Line]:
    values = list(lines.values())
    return {
        "macro avg": Line.mean(values, [1.0] * len(values)),
        "weighted avg": Line.mean(values, [line.support for line in values]),
    }


def _layout(lines: Mapping[str, Line], digits: int, middle: str | None, averages: Mapping[str, Line]) -> str:
    def row(name: str, line: Line) -> str:
        figures = " ".join(f"{v:>9.{digits}f}" for v in (line.precision, line.recall, line.f1))
        return f"{name:>12}  {figures} {line.support:>9}"

    head = " ".join(f"{h:>9}" for h in ("precision", "recall", "f1-score", "support"))
    body = [row(name, line) for name, line in lines.items()]
    foot = [row(name, line) for name, line in averages.items()]
    return "\n".join([f"{'':>12}  {head}", "", *body, "", *([middle] if middle else []), *foot, ""])


def main(folder: Path) -> None:
    """Print both reports of the run or simulation kept in `folder`."""
    sums = find_sums(folder)
    print(word_report(sums["tagging.confusion"]))
    print(entity_report(sums["tagging.entities"]))


def find_sums(folder: Path) -> dict[str, Counts]:
    """Return the federated model's sums over all sites: of the kept ones, those of the most words."""
    found = [sums for path in folder.rglob("*") if path.is_file() and (sums := sums_in(path))]
    if not found:
        raise SystemExit(f"{folder} keeps no scores of a finished run")
    return max(found, key=lambda sums: float(sums["tagging.confusion"].sum()))


def sums_in(path: Path) -> dict[str, Counts]:
    """Return the federated model's sums that a kept file holds; {} for any other file."""
    if path.stat().st_size > LARGEST_SUMS:
        return {}
    try:
        arrays = unpack(path.read_bytes())
    except (ArchipelError, ValueError):
        return {}
    own = {name.removeprefix(FEDERATED): array for name, array in arrays.items() if name.startswith(FEDERATED)}
    return own if {"tagging.confusion", "tagging.entities"} <= set(own) else {}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
