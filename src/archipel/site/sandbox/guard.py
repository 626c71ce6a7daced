"""Guard: from a site's terms and a machine's walls to the way one worker is started.

With bubblewrap the worker's process gets a file system of its own, built of mounts in this order:

    /tmp, /dev/shm     fresh, in memory, of limited size
    system, Python     read-only
    data set, caches   read-only, at their own paths
    bench              the worker's folder, read-only; the result files in it may be written, and no other be made
    the rest           is not there

Without it, Landlock alone refuses what is not named; /tmp then is a folder of the bench, on disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psutil

from archipel.site.sandbox import library
from archipel.site.sandbox.groups import Bounds
from archipel.site.sandbox.survey import Walls, namespaces, require_walls
from archipel.site.sandbox.terms import Confinement, Limits, Sandbox

_MB = 1_000_000
_LEAST_FILE_MB, _SHARE_OF_DISK, _SHARE_OF_MEMORY = 64, 4, 0.75
_PASSED_ON = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHASHSEED"}
_PASSED_ON |= {"XLA_FLAGS", "CUBLAS_WORKSPACE_CONFIG"}
_PASSED_ON |= {"ARCHIPEL_FLEET", "ARCHIPEL_ROLE", "ARCHIPEL_TURNS", "ARCHIPEL_FAILPOINT"}
_PASSED_ON_FAMILIES = ("JAX_", "CUDA_", "NVIDIA_")
"""What a worker gets of the agent's environment; a token or a password in it stays outside."""
_ROOM_FOR_LIBRARIES = 16_000 * _MB
_OF_BUBBLEWRAP = 2
"""Processes of bubblewrap's own: they are in the worker's group."""
_COMPILED = "JAX_COMPILATION_CACHE_DIR"
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker is to see of its site."""

    bench: Path
    """Its own folder…"""
    results: tuple[Path, ...]
    """…and the files in it that it writes."""
    data: tuple[Path, ...]
    """Its job's data set."""
    hidden: tuple[Path, ...]
    """What must not be seen even where it lies among the libraries: the site's folder, other data sets."""
    read: tuple[Path, ...] = ()
    """Files of the agent's that it needs: those of turns."""
    write: tuple[Path, ...] = ()
    gpu: bool = False
    """Does the job ask for one?"""


class Enclosure(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker is started."""

    words: tuple[str, ...] = ()
    """What comes before the words of the worker's own command."""
    environment: dict[str, str]
    confinement: Confinement | None = None
    """What it closes behind itself; None: nothing."""
    bounds: Bounds | None = None
    """The control group it is put into; None: there are none."""
    is_parent_hidden: bool = False
    """Does it see another parent than the agent?"""


class Guard:
    """One for an agent."""

    def __init__(self, sandbox: Sandbox, walls: Walls, environment: Mapping[str, str] = os.environ) -> None:
        """Take the site's terms.

        Raises:
            StateError: the site asks for walls that are missing.
        """
        require_walls(sandbox, walls)
        self._sandbox = sandbox
        self._walls = walls
        self._given = environment

    def line(self) -> str:
        """Say in one line how tasks are confined."""
        return "none, as this site has it" if self._sandbox.require == "none" else self._walls.line()

    @property
    def is_closed(self) -> bool:
        """Does every wall stand?"""
        return self._sandbox.require != "none" and self._walls.is_full

    def enclose(self, view: View) -> Enclosure:
        """Say how a worker with this view is started."""
        if self._sandbox.require == "none":
            return Enclosure(environment=dict(self._given))
        own = Path("/tmp") if self._walls.bubblewrap else view.bench / "tmp"  # noqa: S108 - one of its own
        shown = self._shown(view)
        devices = self._devices(view)
        limits = _rlimits(self._sandbox.limits, view.bench, address_space=not devices)
        if self._walls.bubblewrap is None and os.geteuid() != 0:
            limits["NPROC"] += _threads_of_this_user()  # counted with it where it has no users of its own
        confinement = Confinement(
            read=(*shown, "/proc", str(view.bench)),
            write=tuple(str(path) for path in (*view.results, *view.write)),
            own=(str(own), "/dev/shm") if self._walls.bubblewrap else (str(own),),  # noqa: S108
            devices=devices,
            cores=self._sandbox.limits.cores,
            limits=limits,
            landlock=self._walls.landlock,
            seccomp=self._walls.seccomp,
        )
        return Enclosure(
            words=self._words(view, shown, devices),
            environment=self._environment(own),
            confinement=confinement,
            bounds=self._bounds(),
            is_parent_hidden=self._walls.bubblewrap is not None,
        )

    def _bounds(self) -> Bounds | None:
        if self._walls.groups is None:
            return None
        limits = self._sandbox.limits
        processes = limits.processes + (_OF_BUBBLEWRAP if self._walls.bubblewrap else 0)
        place, memory = self._walls.groups, _memory_of(limits)
        return Bounds(place=place, memory_bytes=memory, processes=processes, cores=limits.cores)

    def caches(self) -> tuple[Path, ...]:
        """Return the folders that every task may read."""
        ours = _cache_of(self._given)
        compiled = self._given.get(_COMPILED)
        named = [Path(path) for path in self._sandbox.caches] + ([Path(compiled)] if compiled else [])
        return tuple(path for path in (ours, *named) if path.exists())

    def _shown(self, view: View) -> tuple[str, ...]:
        files = [str(path) for path in (*view.data, *view.read, *self.caches())]
        return (*library.system(), *library.python(self._given, view.hidden), *files)

    def _devices(self, view: View) -> tuple[str, ...]:
        if not (view.gpu and self._sandbox.gpu):
            return ()
        return tuple(str(path) for path in sorted(Path("/dev").glob("nvidia*")))

    def _environment(self, own: Path) -> dict[str, str]:
        kept = {name: value for name, value in self._given.items() if _is_passed_on(name)}
        mine = {"HOME": str(own), "TMPDIR": str(own), "XDG_CACHE_HOME": str(own / "cache")}
        return {**kept, **mine, "USER": "archipel", "LOGNAME": "archipel"}

    def _words(self, view: View, shown: tuple[str, ...], devices: tuple[str, ...]) -> tuple[str, ...]:
        program = self._walls.bubblewrap
        if program is None:
            return ()
        size = str(self._sandbox.limits.tmp_mb * _MB)
        words = [program, *namespaces(), "--proc", "/proc", "--dev", "/dev"]
        words += ["--size", size, "--tmpfs", "/dev/shm", "--size", size, "--tmpfs", "/tmp"]  # noqa: S108
        for path in sorted(shown):
            words += _mount(path)
        for path in devices:
            words += ["--dev-bind", path, path]
        words += ["--ro-bind", str(view.bench), str(view.bench)]
        for file in (*view.results, *view.write):
            words += ["--bind", str(file), str(file)]
        if (cache := _cache_of(self._given)).exists():
            words += ["--symlink", str(cache), "/tmp/cache/archipel"]  # noqa: S108
        return (*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--")  # noqa: S108

    def furnish(self, view: View) -> None:
        """Make the folder that is the worker's /tmp where there are no namespaces."""
        if self._sandbox.require != "none" and self._walls.bubblewrap is None:
            mine, shared = view.bench / "tmp" / "cache", _cache_of(self._given)
            mine.mkdir(parents=True)
            if shared.exists():
                (mine / "archipel").symlink_to(shared)


def _mount(path: str) -> list[str]:
    """Show a path; one that is a link of the system's (/bin → usr/bin) stays one."""
    if Path(path).is_symlink() and path in library.SYSTEM:
        return ["--symlink", str(Path(path).readlink()), path]
    return ["--ro-bind", path, path]


def _is_passed_on(name: str) -> bool:
    return name in _PASSED_ON or name.startswith(_PASSED_ON_FAMILIES)


def _cache_of(environment: Mapping[str, str]) -> Path:
    """Return where tasks find what they keep for each other, such as a pretrained encoder."""
    named = environment.get("XDG_CACHE_HOME")
    home = Path(named) if named else Path(environment.get("HOME", "/nowhere")) / ".cache"
    return home / "archipel"


def _rlimits(limits: Limits, disk: Path, *, address_space: bool) -> dict[str, int]:
    free_mb = shutil.disk_usage(disk).free // _MB
    file_mb = min(limits.file_mb, max(_LEAST_FILE_MB, free_mb // _SHARE_OF_DISK))
    found = {
        "DATA": (memory := _memory_of(limits)),
        "NPROC": limits.processes,
        "FSIZE": file_mb * _MB,
        "NOFILE": limits.open_files,
        "CORE": 0,
    }
    # Shared memory counts here alone; libraries and files that are mapped count too, so there is room for those.
    # A GPU's driver reserves terabytes of addresses.
    return {**found, "AS": 2 * memory + _ROOM_FOR_LIBRARIES} if address_space else found


def _memory_of(limits: Limits) -> int:
    return limits.memory_mb * _MB if limits.memory_mb is not None else int(_memory_bytes() * _SHARE_OF_MEMORY)


def _threads_of_this_user() -> int:
    found = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found += process.num_threads() if process.uids().real == os.getuid() else 0
    return found


def _memory_bytes() -> int:
    """Return the memory of this machine, or of the container it is in."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _CONTAINER_LIMITS:
        if Path(path).is_file() and (text := Path(path).read_text().strip()).isdecimal():
            found = min(found, int(text))
    return found
