"""Disks of the site's machine: what kind, how large, and how fast the one is that holds the site's folder.

    read_disks(folder)               by the kernel's tables; nothing is measured
    speed_of(folder)                 by a file of at most 64 MiB in the folder, which is gone afterwards

A disk is read past the page cache (O_DIRECT) where its file system can, else after the pages were dropped; `how` says
which. Random bytes are written, for some disks are fast with zeros.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
import uuid
from pathlib import Path

import psutil

from archipel.spec import StateError, Value
from archipel.spec.device import Figure
from archipel.spec.inventory import Disk, Tier

MOST_BYTES = 64 * 2**20
SHARE_OF_FREE = 100
"""At most so small a part of the free space is written."""
_PIECE = 4 * 2**20
_VIRTUAL = ("vd", "xvd", "nbd", "rbd", "loop", "zram", "dm-", "md")


class DiskSpeed(Value, frozen=True, kw_only=True):
    """What a test found."""

    at: float
    """Seconds since the Unix epoch."""
    read: Figure
    write: Figure


def read_disks(folder: Path, speed: DiskSpeed | None = None) -> tuple[Disk, ...]:
    """Return the machine's disks, the one of `folder` first, with the speed that was found there."""
    home = folder.stat().st_dev
    found = [_disk(folder, _block_of(home), holds_site=True, speed=speed)]
    seen = {home}
    for place in psutil.disk_partitions(all=False):
        with contextlib.suppress(OSError):  # a mount that the site may not look into
            device = Path(place.mountpoint).stat().st_dev
            if device not in seen:
                found.append(_disk(Path(place.mountpoint), _block_of(device)))
            seen.add(device)
    return tuple(found)


def speed_of(folder: Path, now: float, most_bytes: int = MOST_BYTES) -> DiskSpeed:
    """Write and read a file in `folder`.

    Raises:
        StateError: there is too little free space to tell.
        OSError: the file cannot be written or read.
    """
    size = min(most_bytes, psutil.disk_usage(str(folder)).free // SHARE_OF_FREE) // _PIECE * _PIECE
    if size == 0:
        raise StateError(
            f"too little space in {folder} to measure its disk", hint="free some; nothing else depends on it"
        )
    file = folder / f".speed.{uuid.uuid4().hex}"
    try:
        written = _written(file, size)
        seconds, by = _read(file, size)
    finally:
        file.unlink(missing_ok=True)
    of = f"a file of {size // 2**20} MiB"
    return DiskSpeed(
        at=now,
        write=Figure(value=size / written, source="measured", how=f"{of}, flushed"),
        read=Figure(value=size / seconds, source="measured", how=f"{of}, {by}"),
    )


def _written(file: Path, size: int) -> float:
    piece = os.urandom(_PIECE)
    with file.open("xb", buffering=0) as out:
        begun = time.perf_counter()
        for _ in range(size // _PIECE):
            out.write(piece)
        os.fsync(out.fileno())
        return time.perf_counter() - begun


def _read(file: Path, size: int) -> tuple[float, str]:
    """Return how long reading takes, and how it was done."""
    direct = getattr(os, "O_DIRECT", 0)
    with mmap.mmap(-1, _PIECE) as page:  # aligned, as O_DIRECT wants it
        try:
            return _seconds(file, os.O_RDONLY | direct, page, size), "past the page cache"
        except OSError:
            return _seconds(file, os.O_RDONLY, page, size), "after its pages were dropped"


def _seconds(file: Path, flags: int, page: mmap.mmap, size: int) -> float:
    handle = os.open(file, flags)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        begun, done = time.perf_counter(), 0
        while done < size:
            done += os.readv(handle, [page])
        return time.perf_counter() - begun
    finally:
        os.close(handle)


def _disk(place: Path, block: Path | None, *, holds_site: bool = False, speed: DiskSpeed | None = None) -> Disk:
    usage = psutil.disk_usage(str(place))
    return Disk(
        tier=tier_of(block),
        capacity_bytes=usage.total,
        free_bytes=usage.free,
        holds_site=holds_site,
        read=None if speed is None else speed.read,
        write=None if speed is None else speed.write,
    )


def _block_of(device: int) -> Path | None:
    """Return the disk under a file system; None: it has none (tmpfs, overlay, network)."""
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not place.exists():
        return None
    real = place.resolve()
    return real.parent if (real / "partition").exists() else real


def tier_of(block: Path | None) -> Tier:
    """Return what the kernel says of a disk, such as /sys/class/block/nvme0n1; of a virtual one it cannot know."""
    if block is None or block.name.startswith(_VIRTUAL):
        return "unknown"
    if block.name.startswith("nvme"):
        return "nvme"
    try:
        spins = (block / "queue" / "rotational").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return "unknown"
    return "hdd" if spins else "ssd"
