"""When work ends that takes turns, by hand."""

from __future__ import annotations

import pytest

from archipel.planner.sharing import Aging, Rules
from archipel.planner.turns import take_turns
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
    turns = take_turns(fleet({"long": {"work": "12 GFLOP"}, "short": {"work": "4 GFLOP"}}), PLAIN)
    # short: 0 to 4 s; long begins at 10 s and goes on at 20 s for 2 s more.
    assert turns.ends == pytest.approx({"short": 4.0, "long": 22.0})
    assert list(turns.ends) == ["short", "long"]
    assert turns.first.placed == {"short": "eu/cpu"}
    assert turns.mean == pytest.approx(13.0)


def test_weight_lets_a_longer_job_end_first_and_weighs_the_mean():
    work = {"long": {"work": "10 GFLOP", "weight": 3}, "short": {"work": "4 GFLOP"}}
    turns = take_turns(fleet(work), PLAIN)
    assert turns.ends == pytest.approx({"long": 10.0, "short": 14.0})
    assert turns.mean == pytest.approx((3 * 10 + 14) / 4)


def test_pieces_run_only_where_they_may():
    work = {"bound": {"work": "10 GFLOP", "count": 2, "regions": ["eu"]}, "free": {"work": "30 GFLOP"}}
    turns = take_turns(fleet(work, eu=1, us=1), PLAIN)
    assert sorted(turns.ends) == ["bound/1", "bound/2", "free"]
    assert list(turns.ends.values()) == pytest.approx([10.0, 20.0, 30.0])
    assert turns.first.placed["free"] == "us/cpu"


def test_for_the_makespan_the_longest_does_not_wait():
    work = {"long": {"work": "30 GFLOP"}, "short": {"work": "10 GFLOP", "count": 3}}
    by_mean, by_last = (
        take_turns(fleet(work, eu=2), Rules(objective=goal, interval=10, aging=Aging(power=0)))
        for goal in ("weighted-completion", "makespan")
    )
    assert max(by_last.ends.values()) == pytest.approx(30)
    assert max(by_mean.ends.values()) == pytest.approx(40)
    assert by_mean.mean < by_last.mean


def test_without_work_there_are_no_turns():
    assert dict(take_turns(fleet({}), PLAIN).ends) == {}


def test_work_that_may_run_nowhere_is_named_with_what_it_would_take():
    sites = {"eu": {"devices": {"cpu": {"compute": "1 GFLOPS", "memory": "8 GB"}}}}
    large = {"large": {"work": "1 GFLOP", "memory": "12 GB"}}
    with pytest.raises(InfeasibleError, match="memory of large in the way") as raised:
        take_turns(fleet_from({"name": "small", "sites": sites, "work": large}), PLAIN)
    assert "4 GB more memory at eu/cpu" in raised.value.hint
