"""Placements of a fleet's work against numbers worked by hand, and what stands in the way, by name."""

from __future__ import annotations

import pytest

from archipel.planner.placement import front, place_work
from archipel.spec.errors import SpecError
from archipel.spec.fleet import fleet_from
from archipel.spec.quantities import Duration, Money


def fleet(**work):
    """A slow cheap device in the EU and a fast dear one elsewhere: 1 TFLOP takes 10 s or 2 s, for 1 or 4 EUR."""
    devices = [("eu", "100 GFLOPS", "360 EUR/h", "8 GB", "10 W"), ("us", "500 GFLOPS", "7200 EUR/h", "16 GB", "100 W")]
    sites = {
        region: {
            "region": region,
            "devices": {"cpu": {"compute": speed, "price": price, "memory": memory, "power": power}},
        }
        for region, speed, price, memory, power in devices
    }
    default = {"a": {"count": 6, "work": "1 TFLOP"}}
    return fleet_from({"name": "two", "sites": sites, "work": work or default})


def test_the_fastest_placement_deals_by_speed():
    found = place_work(fleet())
    assert (found.status, found.takes.time, found.gap) == ("feasible", Duration(10), 0.0)
    assert [(lane.device, len(lane.items), lane.time.value) for lane in found.lanes] == [
        ("eu/cpu/1", 1, 10.0),
        ("us/cpu/1", 5, 10.0),
    ]
    assert found.takes.cost.value == pytest.approx(1 + 5 * 4)
    assert found.takes.energy.value == pytest.approx(10 * 10 + 10 * 100)


def test_the_cheapest_is_slow_and_a_deadline_or_a_budget_moves_it():
    cheapest = place_work(fleet(), objective="cost")
    assert (cheapest.takes.cost.value, cheapest.takes.time.value) == (pytest.approx(6), pytest.approx(60))
    within = place_work(fleet(), objective="cost", deadline=Duration(30))
    assert (within.takes.cost.value, within.takes.time.value) == (pytest.approx(3 + 3 * 4), pytest.approx(30))
    afforded = place_work(fleet(), budget=Money(15.0, "EUR"))
    assert (afforded.takes.cost.value, afforded.takes.time.value) == (pytest.approx(15), pytest.approx(30))


@pytest.mark.parametrize(
    ("limits", "binding", "relaxation"),
    [
        ({"deadline": Duration(9.0)}, ("deadline",), "a deadline of 10.00 s instead of 9 s"),
        ({"budget": Money(5.0, "EUR")}, ("budget",), "a budget of 6.000 EUR instead of 5 EUR"),
        ({"deadline": Duration(30.0), "budget": Money(14.0, "EUR")}, ("deadline", "budget"), "a deadline of 40.00 s"),
        ({"deadline": Duration(30.0), "budget": Money(14.0, "EUR")}, ("deadline", "budget"), "a budget of 15.00 EUR"),
        ({"deadline": Duration(9.0), "budget": Money(5.0, "EUR")}, ("deadline", "budget"), "21.00 EUR together"),
        ({"deadline": Duration(30.0), "budget": Money(5.0, "EUR")}, ("budget",), "a budget of 15.00 EUR"),
    ],
)
def test_limits_that_cannot_be_kept_are_named_with_the_least_that_can(limits, binding, relaxation):
    found = place_work(fleet(), **limits)
    assert (found.status, found.binding) == ("infeasible", binding)
    assert any(relaxation in change for change in found.relaxations), found.relaxations


@pytest.mark.parametrize(
    ("item", "binding", "relaxations"),
    [
        ({"memory": "20 GB"}, "memory of a", ("4 GB more memory at us/cpu, for a",)),
        (
            {"memory": "10 GB", "regions": ["eu"]},
            "regions or memory of a",
            ("leave for its data to be in us, for a", "2 GB more memory at eu/cpu, for a"),
        ),
    ],
)
def test_work_that_fits_nowhere_is_named_with_what_each_device_that_comes_nearest_lacks(item, binding, relaxations):
    found = place_work(fleet(a={"work": "1 TFLOP"} | item))
    assert (found.status, found.binding, found.relaxations) == ("infeasible", (binding,), relaxations)


def test_residency_keeps_work_where_its_data_may_be():
    found = place_work(fleet(a={"count": 2, "work": "1 TFLOP", "regions": ["eu"]}, b={"count": 5, "work": "1 TFLOP"}))
    where = {lane.device: {name for name, _ in lane.items} for lane in found.lanes}
    assert where == {"eu/cpu/1": {"a"}, "us/cpu/1": {"b"}}


def test_the_front_runs_from_the_fastest_to_the_cheapest_and_no_point_is_beaten():
    points = front(fleet(), seconds=5)
    figures = [(point.time.value, round(point.cost.value, 6)) for point in points]
    assert figures[0] == (10.0, 21.0)
    assert figures[-1] == (60.0, 6.0)
    assert len(figures) >= 5
    assert figures == sorted(figures)
    assert [cost for _, cost in figures] == sorted((cost for _, cost in figures), reverse=True)


def test_a_budget_in_another_currency_is_refused():
    with pytest.raises(SpecError, match="EUR and USD"):
        place_work(fleet(), budget=Money(1.0, "USD"))
