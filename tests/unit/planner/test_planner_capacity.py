"""Capacity against numbers worked by hand: the example's hall, and laws that hold for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.planner.capacity import capacity_of, place
from archipel.planner.network import Graph
from archipel.planner.solver import Program, solve
from archipel.spec.fleet import Link, Tier, fleet_from, read_fleet
from archipel.spec.quantities import Bandwidth, Compute, Duration, Size

EXAMPLE = Path(__file__).parents[3] / "examples/capacity/fleet.toml"


def example(*presets):
    return capacity_of(read_fleet(EXAMPLE, presets))


def test_compute_is_the_sum_by_speed_and_less_in_lock_step():
    found = example().compute
    assert (str(found.total), str(found.lock_step)) == ("1,900 GFLOPS", "1,400 GFLOPS")
    assert (found.devices, found.slowest, found.needed) == (350, "hall/cpu", None)
    assert found.undecided.startswith("100 TPS and FLOPS have no common unit")


def test_a_demand_with_known_work_is_short_by_its_missing_part():
    found = example("known-work")
    assert found.compute.undecided is None
    [short] = found.shortfalls
    assert (str(short.needed), str(short.missing)) == ("100 TFLOPS", "98.1 TFLOPS")
    assert short.relaxation == "52.6 times the devices, or 1.9% of the demand"


def test_storage_is_read_as_fast_as_its_slowest_tier():
    found = example().storage
    assert (str(found.total), str(found.bandwidth)) == ("12 TB", "26 GB/s")
    assert [(part.tier, str(part.size)) for part in found.placed] == [
        ("hall/nvme", "1 TB"),
        ("hall/ssd", "1 TB"),
        ("hall/hdd", "8 TB"),
    ]
    assert (found.read_time, str(found.effective), found.bottleneck) == (Duration(8000), "1.25 GB/s", "hall/hdd")


def test_a_second_copy_does_not_fit_by_8_tb():
    found = example("two-copies")
    [short] = found.shortfalls
    assert (short.what, str(short.needed), str(short.missing)) == ("storage", "20 TB", "8 TB")
    assert short.relaxation == "8 TB more; or 1 copy instead of 2"
    assert found.storage.placed == ()


def test_links_carry_their_narrowest_in_series_and_their_sum_striped():
    found = example().links
    assert (str(found.path), str(found.striped), str(found.mean)) == ("10 Gb/s", "85 Gb/s", "28.33 Gb/s")
    assert (found.path_time, str(found.striped_time)) == (Duration(8000), "941.2 s")
    routed = example("routed").links
    assert (routed.route, str(routed.striped)) == (("hall", "metro", "backbone", "clinic"), "10 Gb/s")


def test_what_is_not_there_at_all_is_missing_whole():
    demand = {"compute": "1 GFLOPS", "storage": "1 TB", "transfer": "1 TB", "source": "a", "target": "c"}
    fleet = fleet_from(
        {
            "name": "none",
            "sites": {"a": {}, "c": {}},
            "links": [{"ends": ["a", "b"], "bandwidth": "1 Gb/s"}],
            "demand": demand,
        }
    )
    missing = {short.what: short.missing for short in capacity_of(fleet).shortfalls}
    assert missing == {"compute": Compute(1e9), "storage": Size(1e12), "links": Size(1e12)}


def test_a_copy_needs_another_tier():
    document = {"name": "x", "sites": {"a": {"storage": {"hdd": {"capacity": "9 TB", "bandwidth": "1 GB/s"}}}}}
    fleet = fleet_from(document | {"demand": {"storage": "2 TB", "copies": 2}})
    [short] = capacity_of(fleet).shortfalls
    assert str(short.missing) == "2 TB"


def test_parallel_paths_add_up_and_the_widest_is_found():
    def link(one, other, speed):
        return Link(ends=(one, other), bandwidth=Bandwidth(speed))

    graph = Graph([link("a", "b", 3), link("b", "d", 2), link("a", "c", 4), link("c", "d", 1), link("b", "c", 5)])
    width, path = graph.widest_path("a", "d")
    assert (width, path) == (Bandwidth(2), ("a", "c", "b", "d"))
    assert graph.max_flow("a", "d") == Bandwidth(3)
    assert graph.max_flow({"a", "b"}, "c") == Bandwidth(10)  # a-c, b-c, and b-d-c
    assert graph.max_flow("a", "z") is None
    assert graph.widest_path("a", "z") == (None, ())


TIERS = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(TIERS, st.floats(0.05, 1))
def test_a_placement_is_the_optimum_of_its_linear_program(drawn, share):
    tiers = {
        str(index): Tier(capacity=Size(capacity), bandwidth=Bandwidth(speed))
        for index, (capacity, speed) in enumerate(drawn)
    }
    data = share * sum(capacity for capacity, _ in drawn)
    placed = place(Size(data), tiers)
    assert sum(part.size.value for part in placed) == pytest.approx(data)
    assert all(part.size.value <= tiers[part.tier].capacity.value * (1 + 1e-9) for part in placed)
    count = len(drawn)
    program = Program(
        cost=np.append(np.zeros(count), 1.0),
        upper=np.append(np.array([capacity for capacity, _ in drawn], float), np.inf),
        whole=np.zeros(count + 1, bool),
        row=np.concatenate([np.arange(count), np.arange(count), np.full(count, count)]).astype(np.int32),
        column=np.concatenate([np.arange(count), np.full(count, count), np.arange(count)]).astype(np.int32),
        entry=np.concatenate([np.ones(count), [-float(speed) for _, speed in drawn], np.ones(count)]),
        low=np.append(np.full(count, -np.inf), data),
        high=np.append(np.zeros(count), data),
    )
    assert max(part.time.value for part in placed) == pytest.approx(solve(program, seconds=5).value, rel=1e-6)
