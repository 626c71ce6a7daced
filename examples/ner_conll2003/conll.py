"""Reads CoNLL column files into documents and puts their tags into IOB2.

The 2003 files exist in two spellings. IOB1 (the original) writes ``B-`` only
where an entity directly follows another of the same type; IOB2 writes it on
every first word. Everything after this module sees IOB2 only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from archipel.spec import DataError

TAGS = (
    "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER", "O",
)  # fmt: skip
DOCUMENT_MARK = "-DOCSTART-"


@dataclass(frozen=True)
class Sentence:
    """Words and their IOB2 tags, of equal length."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """One article: its sentences in order."""

    sentences: tuple[Sentence, ...]

    @property
    def words(self) -> int:
        """How many words the article has."""
        return sum(len(sentence.words) for sentence in self.sentences)


def to_iob2(tags: Sequence[str]) -> list[str]:
    """The same entities with ``B-`` on each first word; IOB2 comes back as is."""
    result: list[str] = []
    previous = "O"
    for tag in tags:
        if tag.startswith("I-") and previous[2:] != tag[2:]:
            result.append("B-" + tag[2:])
        else:
            result.append(tag)
        previous = tag
    return result


def parse(lines: Iterable[str], name: str = "input") -> Iterator[Document]:
    """The documents of a column file, empty ones left out.

    A file need not open with a document mark: rows before the first one are
    the first document.

    Raises:
        DataError: a line that is not a CoNLL-2003 row; the message names file and line, and none of its words.
    """
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []

    def end_sentence() -> None:
        if words:
            sentences.append(Sentence(tuple(words), tuple(to_iob2(tags))))
            words.clear()
            tags.clear()

    for number, line in enumerate(lines, start=1):
        columns = line.split()
        if not columns:
            end_sentence()
        elif columns[0] == DOCUMENT_MARK:
            end_sentence()
            if sentences:
                yield Document(tuple(sentences))
                sentences = []
        else:
            if len(columns) < 2 or columns[-1] not in TAGS:
                raise DataError(
                    f"{name}, line {number}: {len(columns)} column(s), and the last is no tag of CoNLL-2003",
                    hint=f"mend that line: a row is 'word ... tag' with a tag of {', '.join(TAGS)}",
                )
            words.append(columns[0])
            tags.append(columns[-1])
    end_sentence()
    if sentences:
        yield Document(tuple(sentences))


def read(path: Path) -> list[Document]:
    """All documents of one file."""
    with path.open(encoding="utf-8") as lines:
        return list(parse(lines, path.name))


def write(path: Path, documents: Iterable[Document]) -> None:
    """Write word and IOB2 tag columns; ``read`` gives the same documents back."""
    with path.open("w", encoding="utf-8") as out:
        for document in documents:
            out.write(f"{DOCUMENT_MARK} O\n\n")
            for sentence in document.sentences:
                for word, tag in zip(sentence.words, sentence.tags, strict=True):
                    out.write(f"{word} {tag}\n")
                out.write("\n")
