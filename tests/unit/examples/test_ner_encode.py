"""Articles as rows, rows as batches: every word keeps its tag, its letters and its pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.tasks.load import load_object

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

EXAMPLE = Path(__file__).parents[3] / "examples" / "ner_conll2003"
TAGS = load_object(EXAMPLE, "conll.py", "TAGS")
parse = load_object(EXAMPLE, "conll.py", "parse")
encode = {name: load_object(EXAMPLE, "encode.py", name) for name in ("to_rows", "shape_of", "letters_of", "Vocabulary")}
Batch = load_object(EXAMPLE, "batch.py", "Batch")

TEXT = "Ada I-PER\nQuill I-PER\nsleeps O\n\nFarhaven I-LOC\n\n-DOCSTART- O\n\nNobody O\nsings O\n"


@pytest.fixture
def rows():
    # A piece a letter: its place in the alphabet.
    words = encode["Vocabulary"](
        lambda word: [ord(c.lower()) - 96 for c in word], len, opening=101, closing=102, unknown=100
    )
    found = encode["to_rows"](parse(TEXT.splitlines()), words)
    return {name: torch.from_numpy(array) for name, array in found.items()}


def test_a_row_an_article(rows):
    assert len(rows["tags"]) == 2
    assert rows["pieces"][0, :5].tolist() == [101, 1, 4, 1, 17]
    assert rows["owners"][0, :5].tolist() == [0, 1, 1, 1, 2]


def test_a_batch_keeps_sentences_apart(rows):
    batch = Batch.of(rows)
    assert batch.lengths.tolist() == [3, 1, 2]
    assert batch.mask.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    names = [[TAGS[t] for t in row[:n]] for row, n in zip(batch.tags.tolist(), batch.lengths.tolist(), strict=True)]
    assert names == [["B-PER", "I-PER", "O"], ["B-LOC"], ["O", "O"]]


def test_every_piece_finds_its_word(rows):
    batch = Batch.of(rows)
    pieces = batch.pieces[batch.piece_places]
    words = ["" for _ in batch.slots]
    for piece, word in zip(pieces.tolist(), batch.piece_words.tolist(), strict=True):
        words[word] += chr(piece + 96)
    assert words == ["ada", "quill", "sleeps", "farhaven", "nobody", "sings"]
    assert batch.vectors.tolist() == [len(word) for word in words]


def test_long_articles_are_cut_between_sentences_and_keep_neighbours():
    sentence = "a O\n" * 200 + "\n"
    words = encode["Vocabulary"](lambda _: [7], len, opening=101, closing=102, unknown=100)
    rows = encode["to_rows"](parse((sentence * 3).splitlines()), words)
    assert len(rows["tags"]) == 3
    lengths = [(row != 0).sum() for row in rows["pieces"]]
    assert lengths == [2 + 200 + 64, 2 + 64 + 200 + 64, 2 + 64 + 200]
    assert [(row > 0).sum() for row in rows["owners"]] == [200, 200, 200]


@pytest.mark.parametrize(
    ("word", "other"), [("Paris", "PARIS"), ("U.N.", "UN"), ("1996", "3-2"), ("anti-X", "Anti-X"), ("iMac", "McDonald")]
)
def test_spellings_that_differ_in_shape(word, other):
    assert encode["shape_of"](word) != encode["shape_of"](other)


def test_letters_of_a_long_word_keep_both_ends():
    letters = encode["letters_of"]("a" * 30 + "z")
    assert len(letters) == 20
    assert letters[-1] == encode["letters_of"]("z")[0]
