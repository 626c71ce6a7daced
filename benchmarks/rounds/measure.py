"""Count what a tree of processes costs: CPU seconds, user and system, and the peak memory of each process.

`adopt_orphans` makes this process the parent of whatever its children leave behind, so no process falls out of the
count. A process that has ended is counted through its parent's "children" figures once the parent has waited for it.

Example:
    adopt_orphans()
    tree = Tree()
    process = tree.start(["sleep", "1"], log=Path("sleep.log"))
    before = tree.cpu_seconds()
    ...
    print(tree.cpu_seconds() - before, tree.peak_bytes("sleep"))
    tree.stop()
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 300
"""What a contender may take to start: not measured, and long on a crowded machine."""


class ContenderError(RuntimeError):
    """A contender did not do what the benchmark needs; the message says where its log is."""


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Tree:
    """The processes of one contender."""

    def __init__(self) -> None:
        self._roots: list[subprocess.Popen[bytes]] = []
        self._peaks: dict[str, int] = {}

    def start(
        self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process whose output goes to `log`."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
                start_new_session=True,
            )
        self._roots.append(process)
        return process

    def cpu_seconds(self) -> float:
        """User and system time of every process under this one, ended or not, the benchmark itself left out."""
        own = os.times()
        return own.children_user + own.children_system + sum(_cpu_seconds(pid) for pid in descendants(os.getpid()))

    def watch_memory(self) -> None:
        """Note the peak of every living process under its command line."""
        for pid in descendants(os.getpid()):
            command, peak = _command(pid), _peak_bytes(pid)
            self._peaks[command] = max(self._peaks.get(command, 0), peak)

    def peak_bytes(self, pattern: str) -> int:
        """Largest resident memory any process had whose command line matches `pattern`, in bytes."""
        return max((peak for command, peak in self._peaks.items() if re.search(pattern, command)), default=0)

    def stop(self) -> None:
        """End every process under this one, and wait until none is left."""
        for stop_signal, patience_seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
            for pid in descendants(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(pid, stop_signal)
            with suppress(TimeoutError):
                wait_until(self._all_gone, patience_seconds, "the processes to end")
                return

    def _all_gone(self) -> bool:
        for process in self._roots:
            process.poll()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return not descendants(os.getpid())


def wait_until(condition: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Look ten times a second whether `condition` holds; TimeoutError that names `what` when it does not in time."""
    end = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_seconds:g} s for {what}")
        time.sleep(0.1)


def descendants(root: int) -> list[int]:
    """All living processes below `root`, zombies included: their time is not in their parent's count yet."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    open_ends = [root]
    while open_ends:
        below = children.get(open_ends.pop(), [])
        found += below
        open_ends += below
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command's name (state first); empty where the process is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return []


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _peak_bytes(pid: int) -> int:
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        if found := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
            return int(found[1]) * 1024
    return 0
