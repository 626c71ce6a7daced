"""Surveyor: takes the site's inventory, and measures only while nothing else is to be done.

    surveyor.current            the newest inventory; None before the first look
    await surveyor.live(...)    looks once a minute; measures what is missing where two looks found no work, and the
                                machine is quiet

Processor and accelerators are measured in processes of their own at the lowest priority, the disk by a small file, the
links by blobs that went anyway. What was measured is kept: devices for the machine, disk and links in the journal.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from archipel.site.agent.disks import DiskSpeed, read_disks, speed_of
from archipel.site.journal import Journal
from archipel.site.link.gauge import Gauge
from archipel.spec import ArchipelError, StateError, decode, encode
from archipel.spec.device import DeviceSurvey, Figure
from archipel.spec.inventory import Load, SiteInventory
from archipel.spec.policy import SitePolicy
from archipel.tasks.devices.survey import known_devices

LOOK_SECONDS = 60.0
LOAD_SECONDS = 900.0
"""An inventory in which only the load is new is told no sooner than this."""
QUIET = 0.5
"""Load a core above which nothing is measured: what others use would be missing from figures that are kept."""
DISK_SECONDS = 7 * 86400.0
"""The disk is measured again after this."""
_DISK, _LINKS = "disk-speed", "link-speed"
_LOG = logging.getLogger("archipel.site")


class Surveyor:
    """Keeps the inventory of one site."""

    def __init__(
        self,
        folder: Path,
        *,
        journal: Journal,
        gauge: Gauge,
        policy: Callable[[], SitePolicy | None],
        clock: Callable[[], float],
        cache: Path,
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._gauge = gauge
        self._policy = policy
        self._clock = clock
        self._cache = cache
        self._devices = DeviceSurvey()
        """As this agent measured them; what the cache has stands above."""
        self._surveyed = False
        self.current: SiteInventory | None = None

    async def live(
        self, is_idle: Callable[[], bool], changed: Callable[[], None], look_seconds: float = LOOK_SECONDS
    ) -> None:
        """Look for ever; `changed` is called where there is something new to tell."""
        while True:
            try:
                if await asyncio.to_thread(self.look):
                    changed()
                was_idle = is_idle()
                await asyncio.sleep(look_seconds)
                if was_idle and is_idle() and load_of_cores() < QUIET and self.lacks():
                    await self.measure()
            except (ArchipelError, OSError) as error:
                # A site without an inventory works as well as one with.
                _LOG.warning("no inventory: %s", error)
                await asyncio.sleep(look_seconds)

    def look(self) -> bool:
        """Take the inventory; is there something new to tell?"""
        found, before = self._taken(), self.current
        if before is not None and found.is_like(before) and found.at - before.at < LOAD_SECONDS:
            return False
        self.current = found
        return True

    def lacks(self) -> bool:
        """Is something not measured yet, or too long ago?"""
        speed = self._speed()
        return speed is None or self._clock() - speed.at > DISK_SECONDS or self._lacks_devices()

    async def measure(self) -> None:
        """Measure devices and disk; takes seconds."""
        if self._lacks_devices():
            self._surveyed = True  # what fails is not tried again before the agent is started anew
            self._devices = await survey_apart(self._cache)
        speed = await asyncio.to_thread(speed_of, self._folder, self._clock())
        self._journal.remember(_DISK, encode(speed).decode())

    def _lacks_devices(self) -> bool:
        return not self._surveyed and not known_devices(self._cache).reports

    def _taken(self) -> SiteInventory:
        memory, cores = psutil.virtual_memory(), psutil.cpu_count() or 1
        policy, devices = self._policy(), known_devices(self._cache).reports or self._devices.reports
        if policy is not None and not policy.sandbox.gpu:
            devices = tuple(one for one in devices if one.device.kind != "gpu")
        down, up = self._links()
        return SiteInventory(
            at=self._clock(),
            cores=cores,
            memory_bytes=memory.total,
            load=Load(cores=load_of_cores(), memory_available_bytes=memory.available),
            devices=devices,
            disks=read_disks(self._folder, self._speed()),
            down=down,
            up=up,
            hours=None if policy is None else policy.hours,
        )

    def _speed(self) -> DiskSpeed | None:
        kept = self._journal.setting(_DISK)
        return None if kept is None else decode(kept.encode(), DiskSpeed)

    def _links(self) -> tuple[Figure | None, Figure | None]:
        """Return down and up; what was seen before the agent was started anew holds until a blob goes."""
        kept = self._journal.setting(_LINKS)
        before: tuple[Figure | None, Figure | None] = (None, None)
        if kept is not None:
            before = decode(kept.encode(), tuple[Figure | None, Figure | None])
        now = tuple(self._gauge.figure(way) for way in ("down", "up"))
        found = (now[0] or before[0], now[1] or before[1])
        if found != before:
            self._journal.remember(_LINKS, encode(found).decode())
        return found


def load_of_cores() -> float:
    """Return how many processes ran or waited to, the last minute's mean, over the cores."""
    return os.getloadavg()[0] / (psutil.cpu_count() or 1)


async def survey_apart(cache: Path) -> DeviceSurvey:
    """Measure the machine's devices at the lowest priority; where this is cancelled, the measuring ends with it.

    Raises:
        StateError: the measuring process failed.
    """
    words = (sys.executable, "-P", "-m", "archipel.tasks.devices", "survey", str(cache), "19")
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe, start_new_session=True)
    try:
        said, trouble = await child.communicate()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # also what it has started
        await child.wait()
    if child.returncode != 0:
        last = trouble.decode(errors="replace").strip().rpartition("\n")[2]
        raise StateError(f"devices could not be measured: {last}", hint="`archipel devices` there says more")
    return decode(said, DeviceSurvey)
