"""Articles as rows, rows as batches: every word keeps its tag, its letters and its state."""

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
windows = load_object(EXAMPLE, "encode.py", "windows")
Batch = load_object(EXAMPLE, "batch.py", "Batch")


def vector(word):
    return torch.full((50,), float(len(word))).numpy()


TEXT = "Ada I-PER\nQuill I-PER\nsleeps O\n\nFarhaven I-LOC\n\n-DOCSTART- O\n\nNobody O\nsings O\n"


def read(ids):
    return torch.tensor([[2.0 * number, 1.0] for number in ids])


@pytest.fixture
def rows():
    # A piece a letter, its place in the alphabet; a piece's state: twice that, and 1.
    words = encode["Vocabulary"](
        lambda word: [ord(c.lower()) - 96 for c in word], vector, opening=101, closing=102, unknown=100
    )
    found = encode["to_rows"](parse(TEXT.splitlines()), words, read)
    return {name: torch.from_numpy(array) for name, array in found.items()}


def test_a_row_an_article(rows):
    assert len(rows["tags"]) == 2
    assert rows["states"].shape == (2, 4, 2)
    assert rows["states"][1, 2:].tolist() == [[0, 0], [0, 0]]


def test_a_batch_keeps_sentences_apart(rows):
    batch = Batch.of(rows)
    assert batch.lengths.tolist() == [3, 1, 2]
    assert batch.mask.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    names = [[TAGS[t] for t in row[:n]] for row, n in zip(batch.tags.tolist(), batch.lengths.tolist(), strict=True)]
    assert names == [["B-PER", "I-PER", "O"], ["B-LOC"], ["O", "O"]]


def test_a_word_has_the_mean_of_its_pieces_states(rows):
    batch = Batch.of(rows)
    words = ["ada", "quill", "sleeps", "farhaven", "nobody", "sings"]
    means = [2 * sum(ord(c) - 96 for c in word) / len(word) for word in words]
    assert batch.states[:, 0].tolist() == pytest.approx(means, rel=1e-3)  # kept as float16
    assert batch.states[:, 1].tolist() == [1] * 6
    assert batch.vectors[:, 49].tolist() == [len(word) for word in words]


def test_long_articles_are_cut_between_sentences_and_keep_neighbours():
    sentence = "a O\n" * 200 + "\n"
    words = encode["Vocabulary"](lambda _: [7], vector, opening=101, closing=102, unknown=100)
    (document,) = parse((sentence * 3).splitlines())
    found = list(windows(document, words))
    assert [len(window.ids) for window in found] == [2 + 200 + 64, 2 + 64 + 200 + 64, 2 + 64 + 200]
    assert [sum(owner > 0 for owner in window.owners) for window in found] == [200, 200, 200]


def test_an_endless_sentence_keeps_all_its_words_and_no_state_where_there_is_no_room():
    words = encode["Vocabulary"](lambda _: [7, 8], vector, opening=101, closing=102, unknown=100)
    rows = encode["to_rows"](parse(["a O"] * 600), words, read)
    assert rows["states"].shape == (1, 600, 2)
    assert rows["states"][0, [0, 509, 510, 599], 0].tolist() == [14, 14, 0, 0]


@pytest.mark.parametrize(
    ("word", "other"), [("Paris", "PARIS"), ("U.N.", "UN"), ("1996", "3-2"), ("anti-X", "Anti-X"), ("iMac", "McDonald")]
)
def test_spellings_that_differ_in_shape(word, other):
    assert encode["shape_of"](word) != encode["shape_of"](other)


def test_letters_of_a_long_word_keep_both_ends():
    letters = encode["letters_of"]("a" * 30 + "z")
    assert len(letters) == 20
    assert letters[-1] == encode["letters_of"]("z")[0]
