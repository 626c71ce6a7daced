"""Articles are dealt out whole, each to one bureau, by a rule fixed on training articles."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.spec import DataError
from archipel.tasks.load import load_object

EXAMPLE = Path(__file__).parents[3] / "examples" / "ner_conll2003"
parse = load_object(EXAMPLE, "conll.py", "parse")
read = load_object(EXAMPLE, "conll.py", "read")
dateline = load_object(EXAMPLE, "bureaux.py", "dateline")
DatelineRule = load_object(EXAMPLE, "bureaux.py", "DatelineRule")
dirichlet_split = load_object(EXAMPLE, "bureaux.py", "dirichlet_split")
prepare = load_object(EXAMPLE, "prepare.py", "prepare")


def article(*sentences: str):
    lines = [line for sentence in sentences for line in [*(f"{word} O" for word in sentence.split()), ""]]
    return next(parse(lines))


PARIS = article("Cheese wins prize", "PARIS 1996-01-01", "It was a good cheese .")
LEEDS = article("Rain", "LEEDS , England 1996-01-01", "Much of it .")
SPLIT = article("Shares rise", "RICHMOND , Va .", "1996-01-01", "They rose .")
NOWHERE = article("Moon opens", "TRANQUILITY 1996-01-01", "To all .")
UNDATED = article("Cheese", "No more was said on 1996-01-01", "And none was eaten since the end of 1996-01-02")


@pytest.mark.parametrize(
    ("document", "place"),
    [(PARIS, "PARIS"), (LEEDS, "LEEDS , England"), (SPLIT, "RICHMOND , Va ."), (article("Cheese", "More ."), None)],
)
def test_the_place_before_the_date(document, place):
    assert dateline(document) == place


def test_a_large_place_stands_alone_and_small_ones_join_their_region():
    rule = DatelineRule.from_training([PARIS, PARIS, LEEDS], at_least=2)
    assert rule.bureau(PARIS) == "paris"
    assert rule.bureau(LEEDS) == "western-europe"
    assert rule.bureau(SPLIT) == "americas"
    assert rule.bureau(NOWHERE) == "desk"
    assert rule.bureau(article("Cheese", "More .")) == "desk"


def test_every_article_has_one_bureau():
    documents = [PARIS, LEEDS, SPLIT, NOWHERE, PARIS]
    split = DatelineRule.from_training(documents, at_least=2).split(documents)
    assert sorted(id(d) for part in split.values() for d in part) == sorted(id(d) for d in documents)


def test_dirichlet_deals_every_article_once_and_can_be_repeated():
    parts = {"train": [PARIS, LEEDS, SPLIT] * 10, "test": [NOWHERE]}
    split = dirichlet_split(parts, 4, 0.5, seed=1)
    assert split == dirichlet_split(parts, 4, 0.5, seed=1)
    assert list(split["train"]) == list(split["test"]) == ["bureau-01", "bureau-02", "bureau-03", "bureau-04"]
    assert sum(map(len, split["train"].values())) == 30


def test_folders_hold_all_words(tmp_path, capsys):
    text = "Rain O\n\nLEEDS I-LOC\n, O\nEngland I-LOC\n1996-01-01 O\n\n"
    (tmp_path / "conll").mkdir()
    for name in ("eng.train", "eng.testa", "eng.testb"):
        (tmp_path / "conll" / name).write_text(text)
    prepare(tmp_path / "sites", tmp_path)
    assert "western-europe" in capsys.readouterr().out
    (document,) = read(tmp_path / "sites" / "western-europe" / "test.txt")
    assert document.sentences[1].tags == ("B-LOC", "O", "B-LOC", "O")


def test_without_the_corpus_it_says_how_to_provide_it(tmp_path):
    for data in (None, tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError) as caught:
            prepare(tmp_path / "sites", data)
        assert "eng.train" in caught.value.hint
