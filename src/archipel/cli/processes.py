"""Processes of a fleet: started in the background, found again by any later command, ended without a remainder.

A process belongs to a fleet because its environment says so (ARCHIPEL_FLEET: the fleet's folder, ARCHIPEL_ROLE: what
it is). Children inherit the mark. So there are no files with process ids that could be stale or name a stranger, a
crash of the command that started a process loses nothing, and `stop` finds workers whose parent has died.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from archipel.spec import StateError

FLEET = "ARCHIPEL_FLEET"
ROLE = "ARCHIPEL_ROLE"
PYTHON = (sys.executable, "-P")
"""Our interpreter, for which a file that lies about in the working directory is no module."""
_GRACE_SECONDS = 8.0
"""How long a process may take to end by itself after SIGTERM."""
_TICK_SECONDS = 0.05


class _Background(subprocess.Popen[bytes]):
    """A process that is meant to go on when its starter forgets it, so forgetting it is nothing to warn of."""

    def __del__(self) -> None:
        """Do nothing."""


def marked(fleet: Path, role: str) -> dict[str, str]:
    """Return this process's environment with the mark of `role` of the fleet."""
    return {**os.environ, FLEET: str(fleet.resolve()), ROLE: role}


def start(
    fleet: Path,
    role: str,
    arguments: Sequence[str],
    log: Path,
    *,
    extra: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> psutil.Process:
    """Start `python ARGUMENTS` in a session of its own as `role` of the fleet, with its output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**marked(fleet, role), **(extra or {}), "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as output:
        child = _Background(
            [*PYTHON, *arguments],
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    if stdin is not None and child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it has died; whoever waits for it says why
            child.stdin.write(stdin.encode())
            child.stdin.close()
    process = psutil.Process(child.pid)
    _await_mark(process)
    return process


def _await_mark(process: psutil.Process) -> None:
    """Wait until the mark can be read: for an instant after exec the kernel shows an empty environment."""
    while True:
        try:
            if FLEET in process.environ() or process.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.Error:
            return


def members(fleet: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Yield (role, process) of every live process of the fleet, workers included."""
    mark = str(fleet.resolve())
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            environment = process.environ()
            if environment.get(FLEET) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield environment.get(ROLE, "unknown"), process
        except (psutil.Error, OSError):
            continue


def leaders(fleet: Path) -> dict[str, psutil.Process]:
    """Return role → the process that leads it (the one whose parent is not of the same role)."""
    found = list(members(fleet))
    ids = {process.pid for _, process in found}
    return {role: process for role, process in found if _parent_of(process) not in ids}


def stop(fleet: Path, roles: Iterable[str] | None = None, is_urgent: Callable[[], bool] = lambda: False) -> list[str]:
    """End all processes of the fleet (or of some roles): ask, wait, insist; return the roles that were ended.

    Once `is_urgent()` holds there is no more waiting before insisting; a killed process loses nothing.

    Raises:
        StateError: a process is still there after SIGKILL.
    """
    wanted = None if roles is None else set(roles)
    chosen = [(role, process) for role, process in members(fleet) if wanted is None or role in wanted]
    ids = {process.pid for _, process in chosen}
    for _, process in chosen:
        if _parent_of(process) not in ids:
            _signal(process, kill=False)
    alive = _await_end([process for _, process in chosen], is_urgent)
    late = [process for role, process in members(fleet) if wanted is None or role in wanted]
    for process in {*alive, *late}:
        _signal(process, kill=True)
    left = _await_end({*alive, *late})
    if left:
        numbers = ", ".join(str(process.pid) for process in left)
        raise StateError(f"processes {numbers} do not end", hint="end them by hand, then run the command again")
    return sorted({role for role, _ in chosen})


def _await_end(
    processes: Iterable[psutil.Process], is_urgent: Callable[[], bool] = lambda: False
) -> list[psutil.Process]:
    """Wait a while (not at all, once it is urgent) for processes to end and return those that did not.

    One whose parent has not looked yet (a zombie) has ended: its parent may be the command that leads the fleet.
    """
    until = time.monotonic() + _GRACE_SECONDS
    alive = list(processes)
    while alive and time.monotonic() < until and not is_urgent():
        _, alive = psutil.wait_procs(alive, timeout=_TICK_SECONDS)
        alive = [process for process in alive if is_alive(process)]
    return alive


def is_alive(process: psutil.Process) -> bool:
    """Is it there, and more than a zombie?"""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        return


def _parent_of(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None
