"""Reports from sums, against figures worked out by hand and laid out as scikit-learn does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archipel.tasks.load import load_object

EXAMPLE = Path(__file__).parents[3] / "examples" / "ner_conll2003"
TAGS = load_object(EXAMPLE, "conll.py", "TAGS")
word_report = load_object(EXAMPLE, "report.py", "word_report")
entity_report = load_object(EXAMPLE, "report.py", "entity_report")
summary = load_object(EXAMPLE, "report.py", "summary")

WORDS = """\
              precision    recall  f1-score   support

       B-LOC     0.5000    1.0000    0.6667         1
       I-LOC     0.0000    0.0000    0.0000         0
      B-MISC     0.0000    0.0000    0.0000         0
      I-MISC     0.0000    0.0000    0.0000         0
       B-ORG     0.0000    0.0000    0.0000         1
       I-ORG     0.0000    0.0000    0.0000         0
       B-PER     1.0000    1.0000    1.0000         2
       I-PER     0.0000    0.0000    0.0000         0
           O     1.0000    1.0000    1.0000         6

    accuracy                         0.9000        10
   macro avg     0.2778    0.3333    0.2963        10
weighted avg     0.8500    0.9000    0.8667        10
"""

ENTITIES = """\
              precision    recall  f1-score   support

         LOC     0.5000    1.0000    0.6667         1
        MISC     0.0000    0.0000    0.0000         0
         ORG     0.0000    0.0000    0.0000         1
         PER     1.0000    1.0000    1.0000         2

   micro avg     0.7500    0.7500    0.7500         4
   macro avg     0.3750    0.5000    0.4167         4
weighted avg     0.6250    0.7500    0.6667         4
"""


@pytest.fixture
def confusion():
    table = np.zeros((9, 9))
    for true, guessed, count in (("O", "O", 6), ("B-PER", "B-PER", 2), ("B-LOC", "B-LOC", 1), ("B-ORG", "B-LOC", 1)):
        table[TAGS.index(true), TAGS.index(guessed)] = count
    return table


@pytest.fixture
def entities():
    return np.array([[1, 2, 1], [0, 0, 0], [0, 0, 1], [2, 2, 2]], dtype=float)


def test_words(confusion):
    assert word_report(confusion) == WORDS


def test_entities(entities):
    assert entity_report(entities) == ENTITIES


def test_headline_figures(confusion, entities):
    figures = summary(confusion, entities)
    assert figures == pytest.approx({"word_micro_f1": 0.9, "word_macro_f1": (2 / 3 + 2) / 9, "entity_f1": 0.75})
