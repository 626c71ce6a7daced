"""Metric families: figures by hand and by a second method, and sums that add over any split of the rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.spec import NonFiniteError, ShapeError, SpecError, UnknownNameError
from archipel.spec.views import ClassLine
from archipel.tasks.metrics import FAMILIES, Classification, Tagging, breakdowns, summarise
from archipel.tasks.metrics.classification import BINS, RANKED_CLASSES, area_under
from archipel.tasks.metrics.families import Mean
from archipel.tasks.metrics.tagging import find_entities

SCORES = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.2, 0.6, 0.2]])
LABELS = np.array([0, 1, 1, 1])


def added(parts):
    total: dict[str, Any] = {}
    for sums in parts:
        total = {name: total.get(name, 0) + value for name, value in sums.items()}
    return total


def test_accuracy_and_log_loss_are_those_computed_by_hand():
    figures = summarise(Classification().sums(SCORES, LABELS))
    assert figures["examples"] == 4
    assert figures["accuracy"] == 0.75
    expected = -(math.log(0.7) + math.log(0.5) + math.log(0.3) + math.log(0.6)) / 4
    assert figures["log_loss"] == pytest.approx(expected)


def by_pairs(scores, own):
    """Mann-Whitney U over all pairs; scores in the same bin tie."""
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    pairs = [1.0 if one > other else 0.5 if one == other else 0.0 for one in bins[own] for other in bins[~own]]
    return sum(pairs) / len(pairs) if pairs else None


@given(
    rows=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    cut=st.integers(0, 40),
)
def test_auc_of_two_classes_is_the_share_of_pairs_in_order(rows, cut):
    ones = np.array([score for score, _ in rows])
    own = np.array([is_own for _, is_own in rows])
    scores = np.stack([1 - ones, ones], axis=1)
    family = Classification()
    figures = summarise(
        added(family.sums(scores[part], own[part].astype(int)) for part in (slice(cut), slice(cut, None)))
    )
    expected = by_pairs(ones, own)
    assert figures.get("auc") == (expected if expected is None else pytest.approx(expected))


def test_auc_of_three_classes_is_the_mean_over_classes_with_both_kinds():
    figures = summarise(Classification().sums(SCORES, LABELS))
    areas = [by_pairs(SCORES[:, column], column == LABELS) for column in (0, 1)]
    assert by_pairs(SCORES[:, 2], LABELS == 2) is None
    assert figures["auc"] == pytest.approx(sum(areas) / 2)


def test_ties_count_one_half():
    assert area_under(np.array([0, 3, 0]), np.array([0, 2, 0])) == 0.5
    assert area_under(np.array([1, 1, 0]), np.array([0, 1, 1])) == pytest.approx((2 + 1 + 0.5) / 4)
    assert area_under(np.zeros(3), np.ones(3)) is None


def test_a_sure_mistake_keeps_the_log_loss_finite():
    figures = summarise(Classification().sums(np.array([[1.0, 0.0]]), np.array([1])))
    assert figures["log_loss"] == pytest.approx(-math.log(1e-15))


def test_histograms_are_left_out_where_they_may_not_leave_or_cost_too_much():
    assert "auc" not in summarise(Classification(histograms=False).sums(SCORES, LABELS))
    wide = np.full((2, RANKED_CLASSES + 1), 1 / (RANKED_CLASSES + 1))
    assert "classification.histogram" not in Classification().sums(wide, np.array([0, 1]))


def test_no_rows_give_zeros_and_no_figures():
    sums = Classification().sums(np.zeros((0, 3)), np.zeros(0, int))
    assert summarise(sums) == {"examples": 0.0}
    assert sums["classification.histogram"].shape == (3, 2, BINS)


def test_every_row_is_in_the_histograms_once():
    histogram = Classification().sums(SCORES, LABELS)["classification.histogram"]
    assert histogram.sum(axis=(1, 2)).tolist() == [4, 4, 4]
    assert histogram[:, 1].sum(axis=1).tolist() == [1, 3, 0]
    assert histogram[0, 1, int(0.7 * BINS)] == 1


# ---- tagging ---------------------------------------------------------------------------------------------------

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def codes(text: str):
    """Tags in words, '|' ends a sentence."""
    return np.array([-1 if word == "|" else TAGS.index(word) for word in text.split()])


@dataclass
class Reading:
    tags: str
    entities: set


READINGS = [
    Reading("O B-PER I-PER O", {(1, 3, "PER")}),
    Reading("B-PER B-PER", {(0, 1, "PER"), (1, 2, "PER")}),
    Reading("I-PER I-PER O", {(0, 2, "PER")}),
    Reading("B-PER I-LOC", {(0, 1, "PER"), (1, 2, "LOC")}),
    Reading("O I-LOC B-LOC I-LOC", {(1, 2, "LOC"), (2, 4, "LOC")}),
    Reading("B-PER | I-PER", {(0, 1, "PER"), (2, 3, "PER")}),
    Reading("B-LOC O I-LOC", {(0, 1, "LOC"), (2, 3, "LOC")}),
    Reading("", set()),
]


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.tags or "nothing")
def test_entities_are_read_as_conlleval_reads_them(reading):
    assert find_entities([None if tag == "|" else tag for tag in reading.tags.split()]) == reading.entities


def test_tagging_figures_are_those_computed_by_hand():
    true = codes("B-PER I-PER O B-LOC | O B-LOC I-LOC |")
    guess = codes("B-PER I-PER O O | O B-LOC O |")
    guess[guess < 0] = 0
    sums = Tagging(TAGS).sums(guess, true)
    assert sums["tagging.entities.LOC"].tolist() == [0, 1, 2]
    assert sums["tagging.entities.PER"].tolist() == [1, 1, 1]
    assert sums["tagging.words.B-LOC"].tolist() == [1, 1, 2]
    figures = summarise(sums)
    assert figures["examples"] == 7
    assert figures["micro_f1"] == pytest.approx(5 / 7)
    f1 = {"O": 2 * 2 / (4 + 2), "B-LOC": 2 * 1 / (1 + 2), "I-LOC": 0.0, "B-PER": 1.0, "I-PER": 1.0}
    assert figures["macro_f1"] == pytest.approx(sum(f1.values()) / 5)
    assert figures["entity_precision"] == pytest.approx(1 / 2)
    assert figures["entity_recall"] == pytest.approx(1 / 3)
    assert figures["entity_f1"] == pytest.approx(2 * 1 / (2 + 3))


def test_words_and_entities_are_broken_down_by_class_with_their_averages():
    counts = {"O": (6, 6, 6), "I-LOC": (0, 0, 0), "B-PER": (2, 2, 2), "B-LOC": (1, 2, 1), "B-ORG": (0, 0, 1)}
    sums = {f"tagging.words.{tag}": np.array(found) for tag, found in counts.items()}
    sums |= {"tagging.entities.PER": np.array([2, 2, 2]), "tagging.entities.LOC": np.array([1, 2, 1])}
    words, entities = breakdowns(sums | {"tagging.examples": np.array(10)})
    assert [line.name for line in words.classes] == ["B-LOC", "I-LOC", "B-ORG", "B-PER", "O"]
    assert [line.support for line in words.classes] == [1, 0, 1, 2, 6]
    assert words.classes[0] == ClassLine(name="B-LOC", precision=0.5, recall=1.0, f1=2 / 3, support=1)
    assert words.accuracy == pytest.approx(9 / 10)
    macro, weighted = words.averages
    assert (macro.name, weighted.name) == ("macro avg", "weighted avg")
    assert macro.f1 == pytest.approx((2 / 3 + 2) / 5)
    assert weighted.precision == pytest.approx((0.5 + 2 + 6) / 10)
    assert weighted.recall == pytest.approx((1 + 2 + 6) / 10)
    micro = entities.averages[0]
    assert (micro.name, micro.precision, micro.recall, micro.support) == ("micro avg", 3 / 4, 1.0, 3)
    assert entities.accuracy is None


def test_what_does_not_name_classes_is_not_broken_down():
    assert breakdowns(Classification().sums(SCORES, LABELS)) == ()
    assert breakdowns(Mean().sums(np.zeros(2), np.zeros(2))) == ()
    assert breakdowns({}) == ()
    empty = breakdowns(Tagging(()).sums(np.zeros(0, int), np.zeros(0, int)))
    assert [table.classes for table in empty] == [(), ()]


SENTENCE = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12)


@given(sentences=st.lists(SENTENCE, max_size=6), cut=st.integers(0, 6))
def test_tagging_sums_add_over_sentences(sentences, cut):
    def sums(part):
        words = [pair for sentence in part for pair in [*sentence, (-1, 0)]]
        true, guess = (np.array([pair[side] for pair in words], dtype=int) for side in (0, 1))
        return Tagging(TAGS).sums(guess, true)

    whole = sums(sentences)
    parts = added([sums(sentences[:cut]), sums(sentences[cut:])])
    for name, value in whole.items():
        assert value.tolist() == parts[name].tolist()
    assert sum(whole[f"tagging.words.{tag}"][2] for tag in TAGS) == sum(map(len, sentences))


def test_scores_of_tags_and_chosen_tags_give_the_same_sums():
    true = codes("B-PER I-PER O |")
    scores = np.eye(5)[[3, 0, 0, 0]]
    one, two = Tagging(TAGS).sums(scores, true), Tagging(TAGS).sums(scores.argmax(axis=1), true)
    assert all(one[name].tolist() == two[name].tolist() for name in one)


# ---- refusals --------------------------------------------------------------------------------------------------


@dataclass
class Refusal:
    name: str
    call: Callable[[], Any]
    error: type[Exception] = ShapeError


REFUSALS = [
    Refusal("one-dimensional scores", lambda: Classification().sums(SCORES[:, 0], LABELS)),
    Refusal("lengths", lambda: Classification().sums(SCORES, LABELS[:-1])),
    Refusal("label above", lambda: Classification().sums(SCORES, LABELS + 2)),
    Refusal("label below", lambda: Classification().sums(SCORES, LABELS - 1)),
    Refusal("label float", lambda: Classification().sums(SCORES, LABELS * 1.0)),
    Refusal("NaN", lambda: Classification().sums(SCORES * np.nan, LABELS), NonFiniteError),
    Refusal("tags wide", lambda: Tagging(TAGS).sums(np.zeros((2, 4)), np.array([0, 1]))),
    Refusal("tag above", lambda: Tagging(TAGS).sums(np.array([5]), np.array([0]))),
    Refusal("tag below", lambda: Tagging(TAGS).sums(np.array([-1]), np.array([0]))),
    Refusal("tag label above", lambda: Tagging(TAGS).sums(np.array([0]), np.array([5]))),
    Refusal("tags float", lambda: Tagging(TAGS).sums(np.array([0.0]), np.array([0]))),
    Refusal("tags NaN", lambda: Tagging(TAGS).sums(np.full((1, 5), np.nan), np.array([0])), NonFiniteError),
    Refusal("a tag with a bar", lambda: Tagging(("O", "B|LOC")), SpecError),
    Refusal("mean", lambda: Mean().sums(np.zeros(2), np.zeros(3))),
    Refusal("two families", lambda: summarise({"classification.examples": 1, "tagging.examples": 1})),
    Refusal("stranger", lambda: summarise({"clasification.examples": np.array(1.0)}), UnknownNameError),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_what_cannot_be_summed_is_refused(refusal):
    with pytest.raises(refusal.error) as caught:
        refusal.call()
    assert caught.value.hint


def test_no_sums_have_no_figures():
    assert summarise({}) == {}


def test_a_task_may_sum_figures_of_its_own():
    sums = added(
        [Mean().sums(np.array([1.0, 2.0]), np.array([0.0, 0.0])), Mean().sums(np.array([3.0]), np.array([1.0]))]
    )
    assert summarise(sums) == {"examples": 3.0, "squared_error": 3.0}
    assert summarise({"mean.examples": np.array(0.0), "mean.x": np.array(0.0)}) == {"examples": 0.0}


def test_families_are_known_by_their_own_names():
    assert all(family.name == name for name, family in FAMILIES.items())


@pytest.mark.parametrize(("classes", "labels", "rarest"), [(2, [0, 0, 0, 1], 1.0), (3, [0, 0, 1, 1], 0.0)])
def test_the_rarest_class_is_counted(classes, labels, rarest):
    scores = np.full((4, classes), 1 / classes)
    assert summarise(Classification().sums(scores, np.array(labels)))["smallest_class"] == rarest
