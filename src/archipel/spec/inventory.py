"""SiteInventory: what a site has to work with, as it found it itself; said to control, and kept there with its history.

Figures carry how they came about (spec.device.Figure); None: not known. What it discloses is the site's hardware: names
of processors and GPUs, sizes and speeds, its load and its hours. Nothing in it is about data.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from archipel.spec.canonical import Value
from archipel.spec.device import DeviceReport, Figure
from archipel.spec.policy import Hours

Count = Annotated[int, Meta(ge=0, le=2**53)]
Tier = Literal["nvme", "ssd", "hdd", "unknown"]
"""By the kernel's word; unknown: a virtual or a network disk, behind which anything may lie."""


class Disk(Value, frozen=True, kw_only=True):
    """One disk with a file system on it."""

    tier: Tier
    capacity_bytes: Count
    free_bytes: Count
    """As of the inventory."""
    holds_site: bool = False
    """Does the site's folder lie on it? That one is measured."""
    read: Figure | None = None
    """B/s, past the page cache."""
    write: Figure | None = None
    """B/s, flushed."""


class Load(Value, frozen=True, kw_only=True):
    """How busy the machine is."""

    cores: Annotated[float, Meta(ge=0)]
    """Processes that ran or waited to, a minute's mean, over the cores; above 1: they wait."""
    memory_available_bytes: Count


class SiteInventory(Value, frozen=True, kw_only=True, tag_field="type", tag="inventory/1"):
    """A site's inventory."""

    at: float
    """When it was taken, in seconds since the Unix epoch by the site's clock."""
    cores: Annotated[int, Meta(ge=1)]
    memory_bytes: Count
    load: Load
    devices: tuple[DeviceReport, ...] = ()
    """Those that the site's policy lets jobs use; empty also before the site had a quiet minute to measure them."""
    disks: tuple[Disk, ...] = ()
    down: Figure | None = None
    """B/s from control, as blobs of 1 MiB or more went; None: none has gone yet."""
    up: Figure | None = None
    """B/s to control."""
    hours: Hours | None = None
    """When work may begin there; None: at any time."""

    def is_like(self, other: SiteInventory) -> bool:
        """Is it the same but for the time, the load, and how full the disks are?"""
        return self._lasting() == other._lasting()

    def _lasting(self) -> tuple[object, ...]:
        disks = tuple((disk.tier, disk.capacity_bytes, disk.holds_site, disk.read, disk.write) for disk in self.disks)
        return self.cores, self.memory_bytes, self.devices, disks, self.down, self.up, self.hours
