"""Survey: which walls this machine has, and why the others are missing.

    walls = survey()
    walls.is_full, walls.line()        # True, "full (namespaces, Landlock 7, seccomp)"

bubblewrap is asked to start a program, for it may be installed and of no use: user namespaces may be switched off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from archipel.site.sandbox import groups, landlock, seccomp
from archipel.site.sandbox.terms import Sandbox
from archipel.spec import StateError, Value

PROGRAM = "bwrap"
_PATIENCE_SECONDS = 10.0
_SOME_LANDLOCK, _SCOPED_LANDLOCK = 1, 6


class Walls(Value, frozen=True, kw_only=True):
    """What there is to confine a worker with."""

    bubblewrap: str | None = None
    """Path of the program that makes namespaces; None: there are none."""
    no_bubblewrap: str = ""
    """Why it is missing."""
    landlock: int = 0
    """Version of the kernel's Landlock; 0: none."""
    seccomp: bool = False
    groups: Path | None = None
    """Control group that workers' own are made in; None: limits hold for each process of a worker alone."""
    no_groups: str = ""
    """Why there is none."""

    @property
    def is_full(self) -> bool:
        """Are all of them there?"""
        return self.bubblewrap is not None and self.landlock >= _SOME_LANDLOCK and self.seccomp

    def missing(self) -> tuple[str, ...]:
        """Return what is not there, each with the reason."""
        said = [] if self.bubblewrap else [f"no namespaces ({self.no_bubblewrap})"]
        said += [] if self.landlock else ["no Landlock (Linux 5.13 or newer has it, unless it is switched off)"]
        said += [] if self.seccomp else ["no filter of system calls (x86-64 and ARM64 have one)"]
        return tuple(said)

    def remaining(self) -> tuple[str, ...]:
        """Return what is there; limits on memory, processes and files always are, on each process at the least."""
        said = ["namespaces"] if self.bubblewrap else []
        said += [f"Landlock {self.landlock}"] if self.landlock else []
        said += ["seccomp"] if self.seccomp else []
        bounded = "all processes together" if self.groups else f"each process alone: {self.no_groups}"
        return (*said, f"limits on {bounded}")

    def line(self) -> str:
        """Say in one line how tasks are confined."""
        there = ", ".join(self.remaining())
        return f"full ({there})" if self.is_full else f"PARTIAL: {'; '.join(self.missing())}; what holds: {there}"


def survey() -> Walls:
    """Look at this machine; takes some 10 ms where bubblewrap is installed.

    Where this process may divide its control group it moves into a leaf of it, and so does who else lives there.
    """
    program, why = _bubblewrap()
    place, no_groups = groups.delegation()
    return Walls(
        bubblewrap=program,
        no_bubblewrap=why,
        landlock=landlock.version(),
        seccomp=seccomp.is_available(),
        groups=place,
        no_groups=no_groups,
    )


def require_walls(sandbox: Sandbox, walls: Walls) -> None:
    """Refuse to run where the site asks for every wall and one is missing.

    Raises:
        StateError: which one, and what to do.
    """
    if sandbox.require == "full" and not walls.is_full:
        hint = "install bubblewrap (apt-get install bubblewrap) and allow user namespaces, or set "
        hint += 'require = "available" in [sandbox] of the site\'s policy'
        raise StateError(f"this site runs tasks in a full sandbox only: {'; '.join(walls.missing())}", hint=hint)


def namespaces() -> tuple[str, ...]:
    """Return the words for bubblewrap that give a process a world of its own.

    Root gets no user namespace: there the kernel would count it as root, whom no limit of processes holds. It keeps
    the one capability by which the worker becomes somebody who is counted; see confine.py.
    """
    words: tuple[str, ...] = (
        "--die-with-parent",
        "--new-session",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
    )
    words += ("--unshare-cgroup-try", "--hostname", "sandbox", "--cap-drop", "ALL")
    return (*words, "--cap-add", "CAP_SETUID") if os.geteuid() == 0 else (*words, "--unshare-user")


def _bubblewrap() -> tuple[str | None, str]:
    program = shutil.which(PROGRAM)
    if program is None:
        return None, "bubblewrap is not installed"
    shown = ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
    try:
        tried = subprocess.run(  # noqa: S603 - the words are ours
            [program, *namespaces(), *shown, "/bin/true"],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"bubblewrap does not start: {type(error).__name__}"
    if tried.returncode != 0:
        said = tried.stderr.strip().splitlines()
        return None, said[-1] if said else f"bubblewrap ends with exit code {tried.returncode}"
    return program, ""
