"""Traces of devices: what a file may say, and by which error it is refused where it may not."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from clock_fakes import Clients

from archipel.simulation.clock.devices import Drawn, Load
from archipel.simulation.clock.trace import Traced, read_trace
from archipel.spec import ArchipelError, DataError, UnknownNameError
from archipel.spec.timing import DeviceSpec

WHOLE = """device,start,end,seconds_per_example,down_mbps,up_mbps
b,1800,9000,0.05,,
a,7200,9000,,,
a,0,3600,0.02,40,8
a,3000,4000,,40,
"""


def written(place: Path, text: str) -> Path:
    (place / "devices.csv").write_text(text)
    return place / "devices.csv"


def test_a_trace_says_when_devices_are_there_and_how_fast_they_are(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, WHOLE))
    assert trace.period == 9000
    fleet = Traced(DeviceSpec(up_mbps=3.0, assign="name"), 0, trace, Clients("ab"))
    one, other = fleet.device(0), fleet.device(1)
    assert (one.seconds_per_example, one.down_mbps, one.up_mbps) == (0.02, 40, 8)
    # What the trace leaves out is drawn: 3 Mbit/s for all, as there is no spread.
    assert (other.seconds_per_example, other.down_mbps, other.up_mbps) == (0.05, None, 3.0)
    # Unordered and overlapping sessions are as they lie in time, and the trace begins again at its end.
    assert list(islice(one.sessions.since(0.0), 4)) == [(0, 4000), (7200, 9000), (9000, 13000), (16200, 18000)]
    assert list(islice(other.sessions.since(0.0), 2)) == [(1800, 9000), (10800, 18000)]
    assert not fleet.always


def test_speeds_alone_leave_availability_to_the_draw(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "seconds_per_example,device\n0.5,slow\n0.1,fast\n"))
    assert Traced(DeviceSpec(), 0, trace, Clients("ab")).always
    away = Traced(DeviceSpec(online=0.5, session_seconds=10), 0, trace, Clients("ab"))
    assert not away.always
    assert list(islice(away.device(1).sessions.since(0), 3)) == list(
        islice(Drawn(DeviceSpec(online=0.5, session_seconds=10), 0).device(1).sessions.since(0), 3)
    )


def test_clients_without_names_of_the_trace_draw_one_of_its_devices_for_good(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "device,seconds_per_example\nslow,0.5\nfast,0.1\n"))

    def drawn(seed: int) -> list[float]:
        return [Traced(DeviceSpec(), seed, trace, Clients("x")).device(n).seconds_per_example for n in range(400)]

    assert drawn(3) == drawn(3) != drawn(4)
    assert 160 < Counter(drawn(3))[0.5] < 240


FAULTS: list[tuple[str, type[ArchipelError], str]] = [
    ("", DataError, "devices.csv is empty"),
    ("device,start,end\n", DataError, "has no devices"),
    ("start,end\n1,2\n", DataError, "no column 'device'"),
    ("device,start\na,1\n", DataError, "a column 'start' and none 'end'"),
    ("device,end\na,1\n", DataError, "a column 'end' and none 'start'"),
    ("device,strat,end\na,1,2\n", UnknownNameError, "unknown column of the trace devices.csv: 'strat'"),
    ("device,device\na,a\n", DataError, "names column 'device' twice"),
    ("device,start,end\na,0,5\na,-3,5\n", DataError, "row 2 of the trace devices.csv starts at -3"),
    ("device,start,end\na,5,5\n", DataError, "row 1 of the trace devices.csv ends at 5, and not after"),
    ("device,start,end\na,5,\n", DataError, "row 1 of the trace devices.csv has no end"),
    ("device,start,end\na,soon,7\n", DataError, "has start 'soon', which is no finite number"),
    ("device,start,end\na,0,inf\n", DataError, "has end 'inf', which is no finite number"),
    ("device,start,end\n,0,1\n", DataError, "row 1 of the trace devices.csv names no device"),
    ("device,start,end\na,0\n", DataError, "row 1 of the trace devices.csv has too few or too many fields"),
    ("device,up_mbps\na,0\n", DataError, "has up_mbps 0, which must be above 0"),
    ("device,up_mbps\na,1\nb,2\na,3\n", DataError, "row 3 of the trace devices.csv gives 'a' another up_mbps"),
]


@pytest.mark.parametrize(("text", "kind", "message"), FAULTS, ids=[fault[2] for fault in FAULTS])
def test_a_trace_that_cannot_be_is_refused_by_its_row(
    tmp_path: Path, text: str, kind: type[ArchipelError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        read_trace(written(tmp_path, text))
    assert caught.value.hint


def test_a_trace_that_is_not_there_or_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no trace at"):
        read_trace(tmp_path / "devices.csv")
    with pytest.raises(DataError, match="there is no trace at"):
        read_trace(tmp_path)
    (tmp_path / "devices.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_trace(tmp_path / "devices.csv")


@pytest.mark.parametrize(("clients", "message"), [
    ("abc", "no device for client 'c'"),
    ("a", "a device 'b', and no client has that name"),
])  # fmt: skip
def test_devices_by_name_are_those_of_the_clients(tmp_path: Path, clients: str, message: str) -> None:
    trace = read_trace(written(tmp_path, WHOLE))
    with pytest.raises(DataError, match=message) as caught:
        Traced(DeviceSpec(assign="name"), 0, trace, Clients(clients))
    assert 'assign = "drawn"' in caught.value.hint


def test_a_round_on_a_device_is_receiving_training_and_sending() -> None:
    device = Drawn(DeviceSpec(seconds_per_example=0.1, down_mbps=8.0, up_mbps=2.0), 0).device(5)
    load = Load(epochs=3, down_bytes=4_000_000, up_bytes=1_000_000)
    # 32 Mbit at 8 a second, 3 epochs of 20 rows at 0.1 s, 8 Mbit at 2 a second.
    assert device.seconds(load, 20) == pytest.approx(4 + 6 + 4)
    assert device.finish(load, 100.0, 20) == pytest.approx(114)
    assert device.worked(load, 100.0, 103.0, 20) == (pytest.approx(3), 0)
    assert device.worked(load, 100.0, 107.0, 20) == (pytest.approx(7), 10)
    assert device.worked(load, 100.0, 112.0, 20) == (pytest.approx(12), 20)
    assert device.worked(load, 100.0, 999.0, 20) == (pytest.approx(14), 20)
    assert device.worked(load, 0.0, 5.0, 0) == (pytest.approx(5), 0)


def test_speeds_spread_around_their_median_and_bandwidths_go_together() -> None:
    fleet = Drawn(DeviceSpec(seconds_per_example=0.2, speed_sigma=0.5, down_mbps=8.0, up_mbps=2.0, mbps_sigma=1.0), 0)
    found = [fleet.device(client) for client in range(1001)]
    speeds = sorted(device.seconds_per_example for device in found)
    assert speeds[500] == pytest.approx(0.2, rel=0.1)
    assert speeds[841] / speeds[500] == pytest.approx(1.65, rel=0.12)  # one sigma: e^0.5
    assert all(device.down_mbps == pytest.approx(4 * (device.up_mbps or 0)) for device in found)
    assert fleet.device(7).seconds_per_example == fleet.device(7).seconds_per_example == found[7].seconds_per_example
