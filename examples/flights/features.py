"""What the model sees of a flight: the timetable, the calendar, and the weather observed before departure.

Nothing here is known later than an hour before the scheduled departure. There are two arrays a row:

    numbers   NUMBERS in order; NaN where the weather station did not report
    codes     CODES in order, each a position in one list of WORDS words, for one table of learnt vectors

No list of airports has to be agreed on between the sites: a route is its distance and how generous its timetable is.
Which airport it leads to, or where that lies, would mostly tell which airline it is.

    number_columns(columns).shape    # (rows, len(NUMBERS))
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Columns = Mapping[str, Array]

YEAR = "2013"
ORIGINS = ("EWR", "JFK", "LGA")
STRONGEST_WIND = 45.0
"""Miles an hour; the stations reported one wind of 1,048 that year."""
MILES_A_MINUTE = 7.6
"""An airliner's pace in cruise."""
TEST_SHARE = 51
"""Of 256 values of a digest's first byte: 74 days of the year."""

CODES: Mapping[str, int] = MappingProxyType({"origin": 3, "hour": 24, "month": 12, "weekday": 7, "week": 53})
"""Code → how many values it has. Weeks let the model learn the season; single days are never told apart."""
WORDS = sum(CODES.values())


def number_columns(columns: Columns) -> Array:
    """Return the numbers of each row, shape (rows, len(NUMBERS)), float32."""
    return np.stack([compute(columns) for compute in NUMBERS.values()], axis=1).astype(np.float32)


def code_columns(columns: Columns) -> Array:
    """Return the codes of each row, shape (rows, len(CODES)), int64."""
    days = dates(columns)
    first = days.astype("M8[Y]").astype("M8[D]")
    values = {
        "origin": np.searchsorted(ORIGINS, columns["origin"]),
        "hour": columns["sched_dep_time"] // 100 % 24,
        "month": columns["month"] - 1,
        # Day 0 of numpy's calendar, 1970-01-01, was a Thursday.
        "weekday": (days.astype(np.int64) + 3) % 7,
        "week": (days - first).astype(np.int64) // 7,
    }
    starts = np.cumsum([0, *CODES.values()])[:-1]
    return np.stack([values[name] + start for name, start in zip(CODES, starts, strict=True)], axis=1).astype(np.int64)


def is_test_day(columns: Columns) -> Array:
    """Say for each row whether its day is held out: decided by the date's digest, so that all sites agree."""
    days, places = np.unique(dates(columns), return_inverse=True)
    chosen = [hashlib.sha256(f"flights {day}".encode()).digest()[0] < TEST_SHARE for day in days]
    verdict: Array = np.array(chosen, dtype=np.bool_)[places]
    return verdict


def dates(columns: Columns) -> npt.NDArray[np.datetime64]:
    """Return each row's day."""
    months = np.datetime64(YEAR, "M") + (columns["month"] - 1)
    days: npt.NDArray[np.datetime64] = months.astype("M8[D]") + (columns["day"] - 1)
    return days


def minutes(clock: Array) -> Array:
    """Return minutes since midnight of times written as 1435."""
    hours, rest = np.divmod(clock, 100)
    return np.asarray(60 * hours + rest)


def turn(columns: Columns) -> Array:
    """Return the departure's place in the day as an angle, so that midnight has no edge."""
    return 2 * np.pi * minutes(columns["sched_dep_time"]) / 1440


def elapsed(columns: Columns) -> Array:
    """Return scheduled minutes on two clocks: arrival there minus departure here."""
    return (minutes(columns["sched_arr_time"]) - minutes(columns["sched_dep_time"])) % 1440


def slack(columns: Columns) -> Array:
    """Return scheduled minutes over what the distance needs; a generous timetable arrives on time more often."""
    hours_ahead = columns["dest_tz"] + 5
    on_one_clock = (elapsed(columns) - 60 * hours_ahead) % 1440
    return np.asarray(on_one_clock - columns["distance"] / MILES_A_MINUTE)


def wind(columns: Columns, part: Callable[[Array], Array]) -> Array:
    """Return the wind's north (cos) or east (sin) part; 0 where it comes from no direction."""
    return np.nan_to_num(part(np.deg2rad(columns["wind_dir"]))) * wind_speed(columns)


def wind_speed(columns: Columns) -> Array:
    """Return miles an hour, without the impossible."""
    return np.minimum(columns["wind_speed"], STRONGEST_WIND)


NUMBERS: Mapping[str, Callable[[Columns], Array]] = MappingProxyType(
    {
        "departure": lambda c: minutes(c["sched_dep_time"]),
        "departure_sin": lambda c: np.sin(turn(c)),
        "departure_cos": lambda c: np.cos(turn(c)),
        "distance": lambda c: np.log(c["distance"]),
        "elapsed": elapsed,
        "slack": slack,
        "temperature": lambda c: c["temp"],
        "dew_point": lambda c: c["dewp"],
        "humidity": lambda c: c["humid"],
        "wind": wind_speed,
        "wind_east": lambda c: wind(c, np.sin),
        "wind_north": lambda c: wind(c, np.cos),
        "gusts": lambda c: np.nan_to_num(c["wind_gust"]),
        "rain": lambda c: np.log1p(20 * c["precip"]),
        "pressure": lambda c: c["pressure"],
        "visibility": lambda c: c["visib"],
        "unobserved": lambda c: np.isnan(c["temp"]),
    }
)
"""Number → how it is computed from the contract's columns."""
