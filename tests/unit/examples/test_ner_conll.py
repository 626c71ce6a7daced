"""The reader of CoNLL files: both spellings of tags come out as IOB2, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.spec import DataError
from archipel.tasks.load import load_object
from archipel.tasks.metrics.tagging import find_entities

EXAMPLE = Path(__file__).parents[3] / "examples" / "ner_conll2003"
to_iob2 = load_object(EXAMPLE, "conll.py", "to_iob2")
parse = load_object(EXAMPLE, "conll.py", "parse")
read = load_object(EXAMPLE, "conll.py", "read")
write = load_object(EXAMPLE, "conll.py", "write")

RUNS = st.lists(st.tuples(st.sampled_from(["O", "LOC", "MISC", "ORG", "PER"]), st.integers(1, 4)), max_size=12)
INVENTED = """Ada NNP I-NP I-PER
Quill NNP I-NP I-PER
visits VBZ I-VP O
Farhaven NNP I-NP I-LOC

-DOCSTART- -X- O O

Quietly RB I-ADVP O
. . O O
"""


def spell(runs: list[tuple[str, int]], *, first_always: bool) -> list[str]:
    """Write runs of words as tags; IOB1 marks a first word only after an entity of the same type."""
    tags: list[str] = []
    before = "O"
    for kind, length in runs:
        if kind == "O":
            tags += ["O"] * length
        else:
            first = "B-" if first_always or before == kind else "I-"
            tags += [first + kind] + ["I-" + kind] * (length - 1)
        before = kind
    return tags


@given(RUNS)
def test_iob1_becomes_iob2_and_iob2_stays(runs):
    expected = spell(runs, first_always=True)
    assert to_iob2(spell(runs, first_always=False)) == expected
    assert to_iob2(expected) == expected


@given(RUNS)
def test_the_same_entities_are_there(runs):
    tags = spell(runs, first_always=False)
    assert find_entities(to_iob2(tags)) == find_entities(tags)


def test_rows_before_the_first_mark_are_a_document():
    first, second = parse(INVENTED.splitlines())
    assert first.sentences[0].words == ("Ada", "Quill", "visits", "Farhaven")
    assert first.sentences[0].tags == ("B-PER", "I-PER", "O", "B-LOC")
    assert second.words == 2


def test_a_mark_with_nothing_after_it_is_no_document():
    assert len(list(parse([*INVENTED.splitlines(), "-DOCSTART- -X- O O", ""]))) == 2


@pytest.mark.parametrize("line", ["lonely", "lonely NN I-NP B-THING"])
def test_a_wrong_row_is_named_without_its_words_and_with_the_next_step(line):
    with pytest.raises(DataError, match=r"eng\.x, line 2") as caught:
        list(parse(["fine O", line], "eng.x"))
    assert "lonely" not in caught.value.message
    assert "B-PER" in caught.value.hint


def test_what_is_written_is_read_again(tmp_path):
    documents = list(parse(INVENTED.splitlines()))
    write(tmp_path / "train.txt", documents)
    assert read(tmp_path / "train.txt") == documents
