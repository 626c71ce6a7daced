"""A breakdown as text, against scikit-learn's layout written out by hand, and its places in the report."""

from __future__ import annotations

import io

import msgspec
from rich.console import Console

from archipel.cli.report.breakdown import layout
from archipel.cli.report.page import render
from archipel.cli.report.screen import show_report
from archipel.tasks.metrics.breakdown import break_down
from unit.cli.test_cli_report import build, site

COUNTS = {"B-LOC": (1, 2, 1), "I-LOC": (0, 0, 0), "B-ORG": (0, 0, 1), "B-PER": (2, 2, 2), "O": (6, 6, 6)}
WORDS = break_down("words", COUNTS, micro=False)
WORDS_LAID_OUT = """\
              precision    recall  f1-score   support

       B-LOC     0.5000    1.0000    0.6667         1
       I-LOC     0.0000    0.0000    0.0000         0
       B-ORG     0.0000    0.0000    0.0000         1
       B-PER     1.0000    1.0000    1.0000         2
           O     1.0000    1.0000    1.0000         6

    accuracy                         0.9000        10
   macro avg     0.5000    0.6000    0.5333        10
weighted avg     0.8500    0.9000    0.8667        10
"""
ENTITIES = break_down("entities", {"LOC": (1, 2, 1), "ORG": (0, 0, 1), "PER": (2, 2, 2)}, micro=True)
ENTITIES_LAID_OUT = """\
              precision    recall  f1-score   support

         LOC     0.5000    1.0000    0.6667         1
         ORG     0.0000    0.0000    0.0000         1
         PER     1.0000    1.0000    1.0000         2

   micro avg     0.7500    0.7500    0.7500         4
   macro avg     0.5000    0.6667    0.5556         4
weighted avg     0.6250    0.7500    0.6667         4
"""


def test_a_breakdown_is_laid_out_as_users_know_it() -> None:
    assert layout(WORDS) == WORDS_LAID_OUT
    assert layout(ENTITIES) == ENTITIES_LAID_OUT


def test_the_screen_and_the_page_show_every_class() -> None:
    report = msgspec.structs.replace(build(site("x", 0.8, 0.9, 0.95)), breakdowns=(WORDS, ENTITIES))
    screen = Console(file=io.StringIO(), width=60)
    show_report(report, screen)
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert WORDS_LAID_OUT in shown
    assert ENTITIES_LAID_OUT in shown
    page = render(report)
    assert page.count("<td>B-LOC</td><td>0.5000</td><td>1.0000</td><td>0.6667</td><td>1</td>") == 1
    assert "Class by class" not in render(build(site("x", 0.8, 0.9, 0.95)))
