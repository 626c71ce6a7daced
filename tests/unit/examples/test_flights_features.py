"""Features against figures worked out by hand, the split by whole days, and a guard against seeing the future."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archipel.spec import read_job
from archipel.tasks.load import load_object

EXAMPLE = Path(__file__).parents[3] / "examples" / "flights"


def of_features(name: str) -> Any:
    return load_object(EXAMPLE, "features.py", name)


def flights(**given: list[Any]) -> dict[str, Any]:
    """Two flights on New Year's Day; `given` columns instead of theirs."""
    columns: dict[str, list[Any]] = {
        "month": [1, 1],
        "day": [1, 1],
        "sched_dep_time": [600, 1435],
        "sched_arr_time": [900, 130],
        "origin": ["EWR", "LGA"],
        "distance": [760.0, 2280.0],
        "dest_tz": [-6.0, -8.0],
        "temp": [40.0, np.nan],
        "dewp": [28.0, np.nan],
        "humid": [62.0, np.nan],
        "wind_dir": [90.0, np.nan],
        "wind_speed": [10.0, 1048.0],
        "wind_gust": [np.nan, 20.0],
        "precip": [0.0, 0.05],
        "pressure": [1012.0, np.nan],
        "visib": [10.0, 2.0],
    }
    return {name: np.array(values) for name, values in (columns | given).items()}


def number(name: str, columns: Mapping[str, Any]) -> list[float]:
    place = list(of_features("NUMBERS")).index(name)
    return [float(value) for value in of_features("number_columns")(columns)[:, place]]


def codes(name: str, columns: Mapping[str, Any]) -> list[int]:
    sizes = of_features("CODES")
    place = list(sizes).index(name)
    start = sum(list(sizes.values())[:place])
    return [int(value) - start for value in of_features("code_columns")(columns)[:, place]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("departure", [360, 875]),
        ("departure_sin", [1.0, np.sin(2 * np.pi * 875 / 1440)]),
        ("elapsed", [180, 655]),
        ("slack", [180 + 60 - 100, 655 + 180 - 300]),
        ("wind", [10, 45]),
        ("wind_east", [10, 0]),
        ("wind_north", [0, 0]),
        ("gusts", [0, 20]),
        ("rain", [0, np.log(2)]),
        ("unobserved", [0, 1]),
        ("temperature", [40, np.nan]),
    ],
)
def test_a_number_is_what_it_says(name: str, expected: list[float]) -> None:
    assert number(name, flights()) == pytest.approx(expected, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "columns", "expected"),
    [
        ("origin", flights(), [0, 2]),
        ("hour", flights(sched_dep_time=[2359, 2400]), [23, 0]),
        ("month", flights(month=[1, 12]), [0, 11]),
        # 1 January 2013 was a Tuesday, 1 December a Sunday.
        ("weekday", flights(month=[1, 12]), [1, 6]),
        ("week", flights(month=[1, 12], day=[7, 31]), [0, 52]),
    ],
)
def test_a_code_is_what_it_says(name: str, columns: Mapping[str, Any], expected: list[int]) -> None:
    assert codes(name, columns) == expected


def test_every_code_has_words_of_its_own() -> None:
    columns = flights(month=[12, 12], day=[29, 31], sched_dep_time=[2300, 2300], origin=["LGA", "LGA"])
    last = of_features("code_columns")(columns).max(axis=0)
    assert last.tolist() == [2, 26, 38, 45, 98]
    assert of_features("WORDS") == 99


class Watched(Mapping[str, Any]):
    """Columns that remember which were read."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns = columns
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def test_features_read_the_contracts_columns_and_never_the_outcome() -> None:
    watched = Watched(flights(outcome=["late", "late"], arr_delay=[90, 90], dep_delay=[90, 90]))
    of_features("number_columns")(watched)
    of_features("code_columns")(watched)
    of_features("is_test_day")(watched)
    assert watched.read == set(read_job(EXAMPLE / "job.toml").data.contract.columns) - {"outcome"}


def a_year() -> dict[str, Any]:
    days = np.arange(np.datetime64("2013-01-01"), np.datetime64("2014-01-01"))
    months = days.astype("M8[M]")
    return {
        "month": months.astype(np.int64) % 12 + 1,
        "day": (days - months).astype(np.int64) + 1,
    }


def test_the_split_is_by_whole_days_and_never_moves() -> None:
    year = a_year()
    held_out = of_features("is_test_day")(year)
    # Day of the year from 0, by a second method: sha256sum of "flights 2013-01-01" and so on.
    assert np.flatnonzero(held_out)[:6].tolist() == [4, 21, 22, 28, 30, 33]
    assert int(held_out.sum()) == 74


def test_a_day_is_held_out_for_all_its_flights_or_none() -> None:
    columns = {"month": np.array([1, 2, 1, 2]), "day": np.array([3, 5, 3, 5])}
    held_out = of_features("is_test_day")(columns)
    assert held_out[:2].tolist() == held_out[2:].tolist()
