"""Control groups (cgroup v2): a limit on all processes of a worker together, where an rlimit holds for each alone.

    place, why = delegation()                                  # a group that this process may divide, or why not
    group = Group(Bounds(place=place, memory_bytes=8 * 10**9, processes=512, cores=2))
    await launch(*words, environment=..., group=group)         # joins it before it becomes the worker
    group.remove()                                             # 8 GB where memory is what ended it, else None

A group is ours to divide where systemd marks it as delegated, or where it is the root of what this process sees, as in
a container. The kernel lets a group that is divided hold no processes itself: those there move into a leaf of it.
https://docs.kernel.org/admin-guide/cgroup-v2.html, https://systemd.io/CGROUP_DELEGATION.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
from collections.abc import Iterator
from pathlib import Path

import msgspec

from archipel.spec import StateError
from archipel.spec.quantities import Size

_LEAF, _WORKER = "archipel-agents", "archipel-worker"
_NEEDED, _WANTED = ("memory", "pids"), ("cpu",)
_OPTIONAL = ("cpu.max", "memory.swap.max")
_CPU_PERIOD_US = 100_000
_TRIES = 5
_PATIENCE_MS = 2000
_MARKS = ("user.delegate", "trusted.delegate")
_JOIN = 'echo 0 > "$0/cgroup.procs" && exec "$@"'


def delegation(process: Path = Path("/proc/self")) -> tuple[Path | None, str]:
    """Return the control group that workers' groups are made in, ready for them; else None and the reason.

    Where this process and others live in it, they are moved into a leaf of it.
    """
    place, is_root = _own_group(process)
    if place is None:
        return None, "no cgroup v2"
    if place.name == _LEAF:  # an earlier agent has moved us, or itself
        place = place.parent
    elif not is_root and not _is_marked(place):
        return None, "the agent's control group is not delegated to it"
    offered = _words_in(place / "cgroup.controllers")
    if missing := [name for name in _NEEDED if name not in offered]:
        return None, f"cgroup v2 has no controller for {' and '.join(missing)}"
    try:
        _divide(place, [name for name in (*_NEEDED, *_WANTED) if name in offered])
        _sweep(place)
    except OSError as error:
        return None, f"the agent may not divide its control group: {error.strerror}"
    return place, ""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker's control group is to hold it to."""

    place: Path
    """The group that it is made in."""
    memory_bytes: int
    """Memory of all its processes, with what lies in their /tmp and /dev/shm. None of it is swapped out."""
    processes: int
    """Processes and threads."""
    cores: int | None
    """Of processor time; None: all."""

    def files(self) -> dict[str, str]:
        """Return what the files of the group are to say."""
        quota = "max" if self.cores is None else str(self.cores * _CPU_PERIOD_US)
        return {
            "memory.max": str(self.memory_bytes),
            "memory.swap.max": "0",
            "memory.oom.group": "1",  # half a task is of no use
            "pids.max": str(self.processes),
            "cpu.max": f"{quota} {_CPU_PERIOD_US}",
        }


class Group:
    """One worker's; it holds what the worker starts, whichever group of processes or session that enters."""

    def __init__(self, bounds: Bounds) -> None:
        """Make it.

        Raises:
            StateError: the kernel no longer lets us; no group is left.
        """
        self._bounds = bounds
        self.folder = bounds.place / f"{_WORKER}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            self.folder.mkdir()
            for name, value in bounds.files().items():
                if name not in _OPTIONAL or (self.folder / name).exists():
                    (self.folder / name).write_text(value)
        except OSError as error:
            _end(self.folder)
            hint = "start the agent again: it looks anew at what the machine has"
            raise StateError(f"a worker's control group cannot be made: {error}", hint=hint) from error

    def words(self) -> tuple[str, ...]:
        """Return what comes before the words of a command: a shell that joins the group and becomes the command."""
        return ("/bin/sh", "-c", _JOIN, str(self.folder))

    def kill(self) -> None:
        """Kill everything in it."""
        _kill(self.folder)

    def remove(self) -> Size | None:
        """Kill what is left in it, wait until that has ended, and remove it; blocks for 2 s at the most.

        Return the limit of memory if that has killed one of it; None too where the whole machine was short of memory.
        """
        events = dict(line.split() for line in _lines_of(self.folder / "memory.events"))
        _end(self.folder)
        has_outgrown = events.get("oom", "0") != "0" and events.get("oom_kill", "0") != "0"
        return Size(float(self._bounds.memory_bytes)) if has_outgrown else None


def _own_group(process: Path) -> tuple[Path | None, bool]:
    """Return the folder of a process's group, and whether it is the root of those the process can see."""
    named = [line.removeprefix("0::") for line in _lines_of(process / "cgroup") if line.startswith("0::")]
    for line in _lines_of(process / "mountinfo"):
        mounted, _, kind = line.partition(" - ")
        if named and kind.startswith("cgroup2 "):
            root, point = mounted.split()[3:5]
            if Path(named[0]).is_relative_to(root):
                inside = Path(named[0]).relative_to(root)
                return Path(point) / inside, inside == Path()
    return None, False


def _is_marked(place: Path) -> bool:
    for name in _MARKS:
        with contextlib.suppress(OSError):
            if os.getxattr(place, name) == b"1":
                return True
    return False


def _divide(place: Path, controllers: list[str]) -> None:
    switch = place / "cgroup.subtree_control"
    order = " ".join(f"+{name}" for name in controllers)
    for tries_left in reversed(range(_TRIES)):
        if set(controllers) <= set(_words_in(switch)):
            return
        _vacate(place)
        try:
            switch.write_text(order)
        except OSError:  # EBUSY: somebody was started in it meanwhile
            if not tries_left:
                raise


def _vacate(place: Path) -> None:
    """Move who lives in a group into its leaf; the root of all groups alone may keep them, and has no type."""
    if not (place / "cgroup.type").exists():
        return
    leaf = place / _LEAF
    leaf.mkdir(exist_ok=True)
    for pid in _lines_of(place / "cgroup.procs"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            (leaf / "cgroup.procs").write_text(pid)


def _sweep(place: Path) -> None:
    """Remove the groups of agents that have ended without."""
    for folder in place.glob(f"{_WORKER}-*"):
        if not Path("/proc", folder.name.split("-")[2]).exists():
            _end(folder)


def _kill(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is gone, or the kernel is older than 5.14
        (folder / "cgroup.kill").write_text("1")


def _end(folder: Path) -> None:
    _kill(folder)
    with contextlib.suppress(OSError), (folder / "cgroup.events").open() as events:
        changed = select.poll()
        changed.register(events, select.POLLPRI)
        while "populated 1" in events.read() and changed.poll(_PATIENCE_MS):
            events.seek(0)
    with contextlib.suppress(OSError):  # something in it does not die: the next agent's sweep finds it
        folder.rmdir()


def _lines_of(file: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from file.read_text().splitlines()


def _words_in(file: Path) -> list[str]:
    return " ".join(_lines_of(file)).split()
