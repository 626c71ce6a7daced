"""When work ends that takes turns, by hand."""

from __future__ import annotations

import pytest

from archipel.planner.sharing import Aging, Rules
from archipel.planner.timetable import draw_timetable
from archipel.spec.errors import InfeasibleError
from archipel.spec.fleet import fleet_from

PLAIN = Rules(interval=10, stickiness=0.0, aging=Aging(power=0))


def fleet(work, **sites):
    """Sites with one kind of device each: 1 GFLOPS, so that a GFLOP takes a second."""
    held = {
        site: {"region": site, "devices": {"cpu": {"compute": "1 GFLOPS", "count": count}}}
        for site, count in (sites or {"eu": 1}).items()
    }
    return fleet_from({"name": "taking-turns", "sites": held, "work": work})


def test_on_one_device_the_shortest_ends_first_and_the_next_begins_with_the_next_interval():
    timetable = draw_timetable(fleet({"long": {"work": "12 GFLOP"}, "short": {"work": "4 GFLOP"}}), PLAIN)
    # short: 0 to 4 s; long begins at 10 s and goes on at 20 s for 2 s more.
    assert timetable.ends == pytest.approx({"short": 4.0, "long": 22.0})
    assert list(timetable.ends) == ["short", "long"]
    assert timetable.first.placed == {"short": "eu/cpu"}
    assert timetable.mean == pytest.approx(13.0)


def test_weight_lets_a_longer_job_end_first_and_weighs_the_mean():
    work = {"long": {"work": "10 GFLOP", "weight": 3}, "short": {"work": "4 GFLOP"}}
    timetable = draw_timetable(fleet(work), PLAIN)
    assert timetable.ends == pytest.approx({"long": 10.0, "short": 14.0})
    assert timetable.mean == pytest.approx((3 * 10 + 14) / 4)


def test_pieces_run_only_where_they_may():
    work = {"bound": {"work": "10 GFLOP", "count": 2, "regions": ["eu"]}, "free": {"work": "30 GFLOP"}}
    timetable = draw_timetable(fleet(work, eu=1, us=1), PLAIN)
    assert sorted(timetable.ends) == ["bound/1", "bound/2", "free"]
    assert list(timetable.ends.values()) == pytest.approx([10.0, 20.0, 30.0])
    assert timetable.first.placed["free"] == "us/cpu"


def test_for_the_makespan_the_longest_does_not_wait():
    work = {"long": {"work": "30 GFLOP"}, "short": {"work": "10 GFLOP", "count": 3}}
    by_mean, by_last = (
        draw_timetable(fleet(work, eu=2), Rules(objective=goal, interval=10, aging=Aging(power=0)))
        for goal in ("weighted-completion", "makespan")
    )
    assert max(by_last.ends.values()) == pytest.approx(30)
    assert max(by_mean.ends.values()) == pytest.approx(40)
    assert by_mean.mean < by_last.mean


def test_work_for_years_is_planned_in_longer_intervals():
    timetable = draw_timetable(fleet({"year": {"work": "30 PFLOP"}, "half": {"work": "15 PFLOP"}}, eu=2), PLAIN)
    assert timetable.interval == pytest.approx(45_000_000 / 2 / 500)
    assert timetable.ends == pytest.approx({"half": 15e6, "year": 30e6})


def test_without_work_the_timetable_is_empty():
    assert dict(draw_timetable(fleet({}), PLAIN).ends) == {}


def test_work_that_may_run_nowhere_is_named_with_what_it_would_take():
    sites = {"eu": {"devices": {"cpu": {"compute": "1 GFLOPS", "memory": "8 GB"}}}}
    large = {"large": {"work": "1 GFLOP", "memory": "12 GB"}}
    with pytest.raises(InfeasibleError, match="memory of large in the way") as raised:
        draw_timetable(fleet_from({"name": "small", "sites": sites, "work": large}), PLAIN)
    assert "4 GB more memory at eu/cpu" in raised.value.hint
