"""Forecasts held against what came, by numbers worked by hand."""

from __future__ import annotations

import pytest

from archipel.cli.report.screen import graded as said
from archipel.cli.report.screen import worst
from archipel.cli.wording import forecast
from archipel.planner import draw_plan
from archipel.planner.grading import Took, graded
from archipel.spec import Grade
from unit.planner.test_planner_plan import FOUR, SIZES, job, seen

TOOK = Took(round_seconds={"ann": 0.5, "bob": 3.0, "dot": 9.0}, seconds=70.0, down_bytes=39_000, up_bytes=44_000)


def test_each_forecast_is_held_against_what_came_and_what_nobody_forecast_is_not():
    plan = draw_plan(job(), FOUR, SIZES, seen=seen(ann=[1.0, 2.0], bob=[2.0, 4.0], cid=[1.0], dot=[5.0, 6.0]))
    grades = {grade.what: (grade.unit, grade.planned, grade.came, grade.off) for grade in graded(plan, TOOK)}
    assert grades == {
        "the whole run": ("seconds", plan.seconds, 70.0, pytest.approx((70.0 - 62.0) / 62.0)),
        "a round at ann": ("seconds", (1.0, 2.0), 0.5, -0.5),
        "a round at bob": ("seconds", (2.0, 4.0), 3.0, 0.0),
        "a round at dot": ("seconds", (5.0, 6.0), 9.0, 0.5),
        "training, to sites": ("bytes", (40_000.0, 40_000.0), 39_000.0, -0.025),
        "training, from sites": ("bytes", (40_000.0, 40_000.0), 44_000.0, 0.1),
    }
    assert plan.seconds == (5.0 * 10 + 5.0 / 3, 6.0 * 10 + 6.0 / 3)


def test_before_a_models_size_is_known_nothing_is_forecast():
    assert graded(draw_plan(job(), FOUR, SIZES.__class__(model_bytes=0)), TOOK) == ()


def test_of_the_sites_the_one_that_was_furthest_off_is_said():
    plan = draw_plan(job(), FOUR, SIZES, seen=seen(ann=[1.0], bob=[1.0], cid=[1.0], dot=[1.0]))
    shown = worst(graded(plan, TOOK))
    assert [grade.what for grade in shown if "round at" in grade.what] == ["a round at dot"]
    assert said(shown[1]) == "a round at dot 1.0 s, 9.0 s"


def test_short_times_are_told_in_milliseconds():
    assert forecast(Grade(what="a", unit="seconds", planned=(0.0123, 2.0), came=0.04)) == ("12 ms to 2.0 s", "40 ms")
