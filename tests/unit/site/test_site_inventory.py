"""What a site says it has: disks by the kernel's word, speeds by a file that is gone afterwards, links by blobs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import psutil
import pytest

from archipel.site.agent import SiteFolder, disks
from archipel.site.agent.disks import DiskSpeed, read_disks, speed_of, tier_of
from archipel.site.agent.surveyor import DISK_SECONDS, LOAD_SECONDS, Surveyor, survey_apart
from archipel.site.journal import Journal
from archipel.site.link.gauge import KEPT, LEAST_BYTES, Gauge
from archipel.spec import StateError, decode, encode
from archipel.spec.device import Capabilities, Device, DeviceReport, DeviceSurvey, Figure, Health
from archipel.spec.inventory import SiteInventory
from archipel.spec.policy import Hours, SandboxRules, SitePolicy
from unit.site.site_fakes import FakeControl, living

SPEED = DiskSpeed(
    at=1000.0,
    read=Figure(value=2e9, source="measured", how="a file"),
    write=Figure(value=1e9, source="measured", how="a file"),
)


def report(name: str, kind: str = "cpu") -> DeviceReport:
    device = Device(name=name, kind=kind, adapter="numpy", model="m", label="executed", backing="b")
    rates = {"float32": Figure(value=1e9, source="measured", how="h")}
    return DeviceReport(
        device=device, capabilities=Capabilities(rates=rates), health=Health(state="ok"), measured_at=1.0
    )


class Place:
    """A surveyor with a clock, a policy and devices that a test sets."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.now = 1000.0
        self.policy: SitePolicy | None = None
        self.devices: tuple[DeviceReport, ...] = ()
        self.measured: list[str] = []
        self.loads = [0.0] * 1000
        self.gauge = Gauge()
        monkeypatch.setattr("archipel.site.agent.surveyor.known_devices", lambda _: DeviceSurvey(reports=self.devices))
        monkeypatch.setattr("archipel.site.agent.surveyor.survey_apart", self._survey)
        monkeypatch.setattr("archipel.site.agent.surveyor.load_of_cores", lambda: self.loads.pop(0))
        monkeypatch.setattr("archipel.site.agent.surveyor.speed_of", self._speed)
        self.surveyor = self.made()

    def made(self) -> Surveyor:
        return Surveyor(
            self.folder,
            journal=Journal(self.folder / "journal.db"),
            gauge=self.gauge,
            policy=lambda: self.policy,
            clock=lambda: self.now,
            cache=self.folder,
        )

    async def _survey(self, cache: Path) -> DeviceSurvey:
        self.measured.append("devices")
        return DeviceSurvey(reports=(report("cpu"),))

    def _speed(self, folder: Path, now: float) -> DiskSpeed:
        self.measured.append("disk")
        return msgspec.structs.replace(SPEED, at=now)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_the_first_look_measures_nothing(here: Place) -> None:
    assert here.surveyor.look()
    assert here.measured == []
    found = here.surveyor.current
    assert found is not None
    assert found.devices == ()
    assert found.disks[0].holds_site
    assert found.disks[0].read is None


def test_a_look_that_finds_the_same_is_news_only_after_a_while(here: Place) -> None:
    assert here.surveyor.look()
    here.now += LOAD_SECONDS - 1
    assert not here.surveyor.look()
    here.now += 1
    assert here.surveyor.look()


async def test_what_was_measured_is_news_and_outlives_the_agent(here: Place) -> None:
    here.surveyor.look()
    assert here.surveyor.lacks()
    await here.surveyor.measure()
    assert here.measured == ["devices", "disk"]
    assert not here.surveyor.lacks()
    assert here.surveyor.look()
    assert here.surveyor.current is not None
    assert [one.device.name for one in here.surveyor.current.devices] == ["cpu"]
    again = here.made()
    again.look()
    assert again.current is not None
    assert again.current.disks[0].read == SPEED.read
    assert again.lacks(), "no cache was written: it is measured once an agent"
    here.devices = (report("cpu"),)
    assert not again.lacks()


async def test_the_disk_is_measured_again_after_a_week_and_devices_are_not(here: Place) -> None:
    await here.surveyor.measure()
    here.now += DISK_SECONDS + 1
    assert here.surveyor.lacks()
    await here.surveyor.measure()
    assert here.measured == ["devices", "disk", "disk"]


def test_links_are_told_once_a_blob_has_gone_and_outlive_the_agent(here: Place) -> None:
    here.surveyor.look()
    here.gauge.note("down", size_bytes=4 * LEAST_BYTES, seconds=2.0)
    assert here.surveyor.look()
    here.gauge = Gauge()
    again = here.made()
    again.look()
    assert again.current is not None
    assert again.current.down is not None
    assert again.current.down.value == 2 * LEAST_BYTES
    assert again.current.up is None


def test_a_policy_without_gpus_and_with_hours_is_seen(here: Place) -> None:
    here.devices = (report("cpu"), report("gpu0", "gpu"))
    here.policy = SitePolicy(sandbox=SandboxRules(gpu=False), hours=Hours(begin="22:00", end="06:00"))
    here.surveyor.look()
    assert here.surveyor.current is not None
    assert [one.device.name for one in here.surveyor.current.devices] == ["cpu"]
    assert here.surveyor.current.hours == here.policy.hours


async def test_nothing_is_measured_while_there_is_work(here: Place) -> None:
    asked, busy, told, twice = [], {0, 2}, [], asyncio.Event()

    def is_idle() -> bool:
        asked.append(len(asked) not in busy)
        return asked[-1]

    def tell() -> None:
        told.append(list(here.measured))
        if len(told) == 2:
            twice.set()

    live = asyncio.create_task(here.surveyor.live(is_idle, tell, 0.0))
    await asyncio.wait_for(twice.wait(), 20)
    live.cancel()
    assert told == [[], ["devices", "disk"]]
    assert asked[:5] == [False, True, False, True, True], "only where two looks found no work"


async def test_nothing_is_measured_while_the_machine_is_busy_with_something_else(here: Place) -> None:
    looks, twice = [], asyncio.Event()
    here.loads = [2.0, 2.0, 2.0, 0.1, *[0.0] * 1000]  # each look asks too

    def tell() -> None:
        looks.append((here.measured[:], 1004 - len(here.loads)))
        if len(looks) == 2:
            twice.set()

    live = asyncio.create_task(here.surveyor.live(lambda: True, tell, 0.0))
    await asyncio.wait_for(twice.wait(), 20)
    live.cancel()
    assert looks[0] == ([], 1)
    assert looks[1][0] == ["devices", "disk"]
    assert looks[1][1] >= 4


async def test_a_disk_that_fails_does_not_end_the_site(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, again, loop = [], asyncio.Event(), asyncio.get_running_loop()

    def fails(*_: object) -> None:
        looks.append(1)
        if len(looks) == 3:
            loop.call_soon_threadsafe(again.set)
        raise OSError("input/output error")

    monkeypatch.setattr("archipel.site.agent.surveyor.read_disks", fails)
    live = asyncio.create_task(here.surveyor.live(lambda: True, lambda: None, 0.0))
    await asyncio.wait_for(again.wait(), 20)
    assert not live.done()
    live.cancel()


async def test_measuring_ends_with_the_agent_and_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "slow"
    pid = tmp_path / "pid"
    program.write_text(f"#!/bin/sh\nsleep 600 & echo $! > {pid}.part && mv {pid}.part {pid} && wait\n")
    program.chmod(0o700)
    monkeypatch.setattr("archipel.site.agent.surveyor.sys.executable", str(program))
    measuring = asyncio.create_task(survey_apart(tmp_path))
    async with asyncio.timeout(20):
        while not pid.exists():  # noqa: ASYNC110 (another process makes it)
            await asyncio.sleep(0.01)
    grandchild = psutil.Process(int(pid.read_text()))
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    psutil.wait_procs([grandchild], timeout=20)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


async def test_a_survey_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho the driver is gone >&2; exit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr("archipel.site.agent.surveyor.sys.executable", str(program))
    with pytest.raises(StateError, match="the driver is gone"):
        await survey_apart(tmp_path)


@pytest.mark.parametrize(
    ("name", "rotational", "tier"),
    [
        ("nvme0n1", "0", "nvme"),
        ("sda", "0", "ssd"),
        ("sdb", "1", "hdd"),
        ("vda", "1", "unknown"),
        ("dm-0", "0", "unknown"),
        ("sdc", None, "unknown"),
    ],
)
def test_a_tier_is_the_kernels_word_and_unknown_where_a_disk_is_virtual(
    tmp_path: Path, name: str, rotational: str | None, tier: str
) -> None:
    queue = tmp_path / name / "queue"
    queue.mkdir(parents=True)
    if rotational is not None:
        (queue / "rotational").write_text(f"{rotational}\n")
    assert tier_of(tmp_path / name) == tier
    assert tier_of(None) == "unknown"


def test_a_disk_is_measured_by_a_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    found = speed_of(tmp_path, 7.0, most_bytes=4 * 2**20)
    assert found.at == 7.0
    assert found.read.source == found.write.source == "measured"
    assert "4 MiB" in found.read.how
    assert list(tmp_path.iterdir()) == []
    assert [disk.read for disk in read_disks(tmp_path, found) if disk.holds_site] == [found.read]


def test_a_file_system_without_direct_reads_is_read_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks.os, "O_DIRECT", 1 << 30, raising=False)  # a flag that no file system knows
    real = disks._seconds

    def refuses(file: Path, flags: int, page: object, size: int) -> float:
        if flags & (1 << 30):
            raise OSError(22, "Invalid argument")
        return real(file, flags, page, size)

    monkeypatch.setattr(disks, "_seconds", refuses)
    assert "pages were dropped" in speed_of(tmp_path, 0.0, most_bytes=4 * 2**20).read.how


def test_a_full_disk_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="too little space"):
        speed_of(tmp_path, 0.0, most_bytes=1)


def test_a_gauge_tells_the_median_of_large_blobs_alone() -> None:
    gauge = Gauge()
    assert gauge.figure("up") is None
    gauge.note("up", size_bytes=LEAST_BYTES - 1, seconds=1e-9)
    assert gauge.figure("up") is None
    for seconds in (1.0, 2.0, 100.0):
        gauge.note("up", size_bytes=10_000_000, seconds=seconds)
    figure = gauge.figure("up")
    assert figure is not None
    assert figure.value == 5_000_000
    for _ in range(KEPT):
        gauge.note("up", size_bytes=3_000_000, seconds=1.0)
    figure = gauge.figure("up")
    assert figure is not None
    assert figure.value == 3_000_000
    assert gauge.figure("down") is None


async def test_a_site_tells_its_inventory_when_it_comes_and_again_on_the_next_link(
    control: FakeControl, place: SiteFolder
) -> None:
    async with living(place):
        await control.until(lambda: len(control.inventories) == 1)
        control.hang_up()
        await control.until(lambda: len(control.inventories) == 2)
    first = control.inventories[0]
    assert first.cores >= 1
    assert first.disks[0].holds_site
    assert decode(encode(first), SiteInventory) == first
