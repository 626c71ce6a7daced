"""Fixed point: hand-made grids, exact sums, bounds that hold, and every value outside them refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.security.secagg import WEIGHT, Field, Layout
from archipel.security.secagg.encoding import BLOCK, grid_of
from archipel.spec import NonFiniteError, ShapeError, SpecError

KEY = bytes(range(32))
DELTA = Field(name="delta", count=3, low=-1.0, high=1.0)


@pytest.mark.parametrize(
    ("sites", "low", "high", "expected"),
    [
        # 10 sites have 429,496,729 levels each; 2 / 2^-27 = 2^28 are the most steps of a power of two below that.
        (10, -1.0, 1.0, (2.0**-27, -(2**27), 2**28)),
        (100, -1.0, 1.0, (2.0**-24, -(2**24), 2**25)),
        (1000, -1.0, 1.0, (2.0**-21, -(2**21), 2**22)),
        (10_000, -1.0, 1.0, (2.0**-17, -(2**17), 2**18)),
        # 4 sites: 2^30 - 1 levels, and 2^30 would be one too many.
        (4, -1.0, 1.0, (2.0**-28, -(2**28), 2**29)),
        (3, 0.0, 3.0, (2.0**-28, 0, 3 * 2**28)),
        (2**32 - 1, 0.0, 1.0, (1.0, 0, 1)),
    ],
)
def test_grids_made_by_hand(sites, low, high, expected) -> None:
    grid = grid_of(Field(name="x", low=low, high=high), sites)
    assert (grid.step, grid.base, grid.levels) == expected


@given(
    sites=st.integers(1, 2**31),
    low=st.floats(-1e30, 1e30),
    width=st.floats(1e-30, 1e30),
)
def test_no_sum_of_levels_can_wrap_around(sites, low, width) -> None:
    high = low + width
    if not low < high:
        return
    try:
        grid = grid_of(Field(name="x", low=low, high=high), sites)
    except SpecError:
        # Three levels are needed where a range lies across a step: only so many sites that there are not as many.
        assert (2**32 - 1) // sites < 3 or abs(low) / width > 2**20
        return
    assert sites * grid.levels <= 2**32 - 1
    assert np.frexp(grid.step)[0] == 0.5
    crumb = grid.step * 1e-9  # what is lost of a number that is nothing beside the range
    assert grid.base * grid.step <= low + crumb
    assert (grid.base + grid.levels) * grid.step >= high - crumb


@given(st.data())
def test_multiples_of_the_step_come_back_exactly_and_their_sum_too(data) -> None:
    sites = data.draw(st.integers(1, 50))
    layout = Layout(sites=sites, fields=(DELTA,))
    grid = layout.grid(DELTA)
    ticks = data.draw(
        st.lists(st.lists(st.integers(-(2**24), 2**24), min_size=3, max_size=3), min_size=sites, max_size=sites)
    )
    total = np.zeros(layout.count, np.uint32)
    for site, row in enumerate(ticks):
        values = np.array(row) * 2.0**-24
        total += layout.encode({"delta": values}, weight=1.0, rounding=bytes([site]) * 32)
    assert grid.step <= 2.0**-24
    assert layout.decode(total, sites=sites)["delta"].tolist() == (np.sum(ticks, axis=0) * 2.0**-24).tolist()


@given(
    rows=st.lists(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), min_size=1, max_size=6),
    weights=st.lists(st.floats(0, 7), min_size=6, max_size=6),
)
def test_the_decoded_sum_is_the_sum_of_what_each_decodes_to_and_within_a_step_a_site(rows, weights) -> None:
    layout = Layout(
        sites=6, fields=(Field(name="delta", count=3, low=-1.0, high=1.0, weighted=True),), weight_bound=7.0
    )
    total, alone = np.zeros(4, np.uint32), np.zeros(3)
    for row, weight in zip(rows, weights, strict=False):
        levels = layout.encode({"delta": np.array(row, np.float32)}, weight=weight, rounding=KEY)
        alone += layout.decode(levels, sites=1)["delta"]
        total += levels
    sums = layout.decode(total, sites=len(rows))
    exact = sum(np.array(row, np.float64) * weight for row, weight in zip(rows, weights, strict=False))
    assert np.allclose(sums["delta"], alone, rtol=0, atol=1e-12)
    assert np.abs(sums["delta"] - exact).max() <= len(rows) * layout.grid(layout.fields[0]).step * 7.0
    assert abs(sums[WEIGHT][0] - sum(weights[: len(rows)])) <= len(rows) * layout.grid(layout.all_fields[-1]).step


def test_weighted_sums_give_the_average_of_federated_averaging() -> None:
    layout = Layout(
        sites=3, fields=(Field(name="delta", count=2, low=-4.0, high=4.0, weighted=True),), weight_bound=64.0
    )
    updates = [([1.0, -2.0], 10.0), ([3.0, 0.5], 30.0), ([-1.0, 4.0], 60.0)]
    total = np.zeros(3, np.uint32)
    for index, (values, weight) in enumerate(updates):
        total += layout.encode({"delta": np.array(values)}, weight=weight, rounding=bytes([index]) * 32)
    sums = layout.decode(total, sites=3)
    assert sums[WEIGHT].tolist() == [100.0]
    assert sums["delta"] / sums[WEIGHT] == pytest.approx(
        [0.4, 2.35], abs=1e-8
    )  # (10 + 90 - 60)/100, (-20 + 15 + 240)/100


@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK + 1, 3 * BLOCK])
def test_rounding_goes_up_as_often_as_the_part_cut_off_says(count: int) -> None:
    field = Field(name="x", count=count, low=0.0, high=2.0**32 - 1)  # one site: the step is 1
    layout = Layout(sites=1, fields=(field,))
    levels = layout.encode({"x": np.full(count, 10.25)}, weight=1.0, rounding=KEY)[:count]
    assert set(levels.tolist()) <= {10, 11}
    share = float((levels == 11).mean())
    assert abs(share - 0.25) <= 4 * np.sqrt(0.1875 / count) + 1e-9


def test_the_ends_of_a_range_are_in_it_whatever_the_rounding() -> None:
    field = Field(name="x", count=BLOCK, low=-0.7, high=0.3)
    layout = Layout(sites=7, fields=(field,))
    grid = layout.grid(field)
    for value in (-0.7, 0.3):
        levels = layout.encode({"x": np.full(BLOCK, value)}, weight=1.0, rounding=KEY)[:BLOCK]
        assert int(levels.max()) <= grid.levels
        assert abs(layout.decode(np.append(levels, np.uint32(0)), sites=1)["x"] - value).max() <= grid.step


def test_the_same_key_rounds_in_the_same_way_and_another_does_not() -> None:
    layout = Layout(sites=3, fields=(Field(name="x", count=99, low=-1.0, high=1.0),))
    values = {"x": np.linspace(-0.9, 0.9, 99)}
    first, again, other = (layout.encode(values, weight=0.5, rounding=key) for key in (KEY, KEY, bytes(32)))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    ("value", "weight", "error", "named"),
    [
        (1.0000001, 1.0, SpecError, r"'delta'\[1\] is 1.0000001.*outside -1.0 to 1.0.*wrap around"),
        (-1.5, 1.0, SpecError, r"'delta'\[1\] is -1.5"),
        (float("nan"), 1.0, NonFiniteError, r"'delta'\[1\] is nan"),
        (float("inf"), 1.0, NonFiniteError, r"'delta'\[1\] is inf"),
        (0.5, 1.5, SpecError, r"'weight'\[0\] is 1.5"),
        (0.5, -0.1, SpecError, r"'weight'\[0\] is -0.1"),
        (0.5, float("nan"), NonFiniteError, r"'weight'\[0\] is nan"),
    ],
)
def test_what_is_outside_its_range_is_refused_by_name(value, weight, error, named) -> None:
    with pytest.raises(error, match=named) as caught:
        Layout(sites=3, fields=(DELTA,)).encode({"delta": np.array([0.1, value, 0.2])}, weight=weight, rounding=KEY)
    assert caught.value.hint


def test_a_weighted_value_outside_its_range_says_that_it_was_weighted() -> None:
    layout = Layout(sites=3, fields=(Field(name="d", low=-1.0, high=1.0, weighted=True),), weight_bound=4.0)
    assert layout.encode({"d": np.array([3.0])}, weight=1.0, rounding=KEY)[0] > 0
    with pytest.raises(SpecError, match=r"is 1.5 \(times the weight's share, 0.5\)"):
        layout.encode({"d": np.array([3.0])}, weight=2.0, rounding=KEY)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_range_that_is_none_is_refused(low: float, high: float) -> None:
    with pytest.raises(SpecError, match="'x'"):
        grid_of(Field(name="x", low=low, high=high), 10)


def test_more_sites_than_there_are_levels_for_are_refused() -> None:
    with pytest.raises(SpecError, match="no levels for 'x' in a sum of 4294967296 sites"):
        grid_of(Field(name="x", low=0.0, high=1.0), 2**32)


def test_other_fields_lengths_and_sites_than_the_layouts_are_refused() -> None:
    layout = Layout(sites=3, fields=(DELTA,))
    with pytest.raises(ShapeError, match=r"missing: \['delta'\], too many: \['grad'\]"):
        layout.encode({"grad": np.zeros(3)}, weight=1.0, rounding=KEY)
    with pytest.raises(ShapeError, match="'delta' has 4 values, 3 expected"):
        layout.encode({"delta": np.zeros(4)}, weight=1.0, rounding=KEY)
    with pytest.raises(ShapeError, match="4 expected"):
        layout.decode(np.zeros(3, np.uint32), sites=1)
    with pytest.raises(SpecError, match="over 4 sites, at most 3"):
        layout.decode(np.zeros(4, np.uint32), sites=4)
