"""Turns articles into rows of numbers: the encoder's states, word vectors, shapes, letters and tags.

A row is a window: whole neighbouring sentences of one article, read with the end of
what stands before and the beginning of what follows as context. The encoder is
uncased, so what capitals tell reaches the model by two other ways: a class for
each word's shape, and the word's own letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .conll import TAGS, Document, Sentence
from .vectors import VECTOR_WIDTH, Vector

LETTERS = 20  # kept of a word: the first 12 and the last 8
ALPHABET = 98  # padding, unknown, the 95 printable ASCII characters, one to spare
SHAPES = 16
PLACES = 4
SHORT = 4  # letters of a word in capitals that looks like an acronym
CORE_PIECES = 320
CONTEXT_PIECES = 64
LONGEST = 512  # positions that the encoder knows

Pieces = Callable[[str], list[int]]
Read = Callable[[list[int]], Tensor]
"""A window's piece ids to a state for each, (pieces, width)."""
Rows = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Vocabulary:
    """How words become piece ids and vectors, and the ids that open and close a window."""

    pieces: Pieces
    vector: Callable[[str], Vector]
    opening: int
    closing: int
    unknown: int


@dataclass(frozen=True)
class Window:
    """Some whole sentences of an article as pieces, with neighbours on both sides."""

    ids: list[int]
    owners: list[int]  # for each piece, its word's number from 1; 0 is context
    sentences: tuple[Sentence, ...]


def shape_of(word: str) -> int:
    """Give a word's class of spelling: digits (0 to 4), one case (5 to 10), both (11 to 15)."""
    if not any(c.isalpha() for c in word):
        return _shape_without_letters(word)
    if any(c.isdigit() for c in word):
        return 3 if any(c.isupper() for c in word) else 4
    if word.islower():
        return 6 if "-" in word else 5
    return _shape_of_capitals(word) if word.isupper() else _shape_of_both_cases(word)


def _shape_without_letters(word: str) -> int:
    if not any(c.isalnum() for c in word):
        return 0
    return 1 if word.isdigit() else 2


def _shape_of_capitals(word: str) -> int:
    if len(word) == 1:
        return 7
    if "." in word:
        return 8
    return 9 if len(word) <= SHORT else 10


def _shape_of_both_cases(word: str) -> int:
    if "-" in word:
        return 11 if all(part[0].isupper() for part in word.split("-") if part) else 12
    if not word[0].isupper():
        return 15
    return 14 if word[1:].isalpha() and not word[1:].islower() else 13


def places_of(sentence: Sentence) -> list[int]:
    """First word or not, in a sentence all of capitals (a headline) or not."""
    loud = not any(c.islower() for word in sentence.words for c in word)
    return [2 * int(loud) + int(index == 0) for index in range(len(sentence.words))]


def letters_of(word: str) -> list[int]:
    """Character classes, padded with zeros."""
    kept = word if len(word) <= LETTERS else word[:12] + word[-8:]
    codes = [ord(c) - 30 if 32 <= ord(c) < 127 else 1 for c in kept]
    return codes + [0] * (LETTERS - len(codes))


def windows(document: Document, words: Vocabulary) -> Iterator[Window]:
    """Cut an article at sentence ends, with neighbouring pieces as context."""
    cut = [[words.pieces(w) or [words.unknown] for w in s.words] for s in document.sentences]
    sizes = [sum(map(len, sentence)) for sentence in cut]
    first = 0
    while first < len(cut):
        last, size = first, 0
        while last < len(cut) and (last == first or size + sizes[last] <= CORE_PIECES):
            size += sizes[last]
            last += 1
        left = [p for s in cut[:first] for w in s for p in w][-CONTEXT_PIECES:]
        right = [p for s in cut[last:] for w in s for p in w][:CONTEXT_PIECES]
        core = [w for s in cut[first:last] for w in s]
        ids = [words.opening, *left, *(p for w in core for p in w), *right, words.closing]
        owners = [0] * (1 + len(left))
        owners += [number for number, w in enumerate(core, start=1) for _ in w]
        owners += [0] * (len(ids) - len(owners))
        if len(ids) > LONGEST:  # one endless sentence: whole words go to one piece each
            ids = [words.opening, *[w[0] for w in core][: LONGEST - 2], words.closing]
            owners = [0, *range(1, len(ids) - 1), 0]
        yield Window(ids, owners, document.sentences[first:last])
        first = last


def to_rows(documents: Iterable[Document], words: Vocabulary, read: Read) -> Rows:
    """All windows of all articles as arrays that share their first dimension; states are float16."""
    found = [window for document in documents for window in windows(document, words)]
    states = [word_states(window, read(window.ids)) for window in found]
    long = max(map(len, states), default=1)
    width = states[0].shape[1] if states else 0
    count = len(found)
    rows: Rows = {
        "states": np.zeros((count, long, width), np.float16),
        "letters": np.zeros((count, long, LETTERS), np.uint8),
        "shapes": np.zeros((count, long), np.uint8),
        "places": np.zeros((count, long), np.uint8),
        "vectors": np.zeros((count, long, VECTOR_WIDTH), np.float32),
        "sentences": np.zeros((count, long), np.int16),
        "tags": np.zeros((count, long), np.uint8),
    }
    for row, window in enumerate(found):
        rows["states"][row, : len(states[row])] = states[row]
        at = 0
        for number, sentence in enumerate(window.sentences, start=1):
            end = at + len(sentence.words)
            rows["letters"][row, at:end] = [letters_of(w) for w in sentence.words]
            rows["shapes"][row, at:end] = [shape_of(w) for w in sentence.words]
            rows["places"][row, at:end] = places_of(sentence)
            rows["vectors"][row, at:end] = [words.vector(w) for w in sentence.words]
            rows["sentences"][row, at:end] = number
            rows["tags"][row, at:end] = [TAGS.index(t) for t in sentence.tags]
            at = end
    return rows


def word_states(window: Window, pieces: Tensor) -> npt.NDArray[np.float16]:
    """A state for each word, (words, width): the mean of its pieces'; zeros where a window had no room for any."""
    owners = torch.tensor(window.owners)
    own = owners > 0
    count = sum(len(sentence.words) for sentence in window.sentences)
    total = torch.zeros(count, pieces.shape[1]).index_add_(0, owners[own] - 1, pieces[own])
    mean = total / torch.bincount(owners[own] - 1, minlength=count).clamp(min=1).unsqueeze(1)
    return mean.numpy().astype(np.float16)
