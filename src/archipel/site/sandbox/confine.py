"""Confine: what a worker does to itself before it loads any task code; nothing of it can be undone.

1. limits       cores, memory, processes, files; no core dumps; first to go where the machine runs out of memory
2. user         root counts as a user of its own, for a limit of processes does not hold root
3. privileges   no capabilities, none to be gained
4. files        Landlock
5. calls        seccomp
"""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
from pathlib import Path

from archipel.site.sandbox import landlock, seccomp
from archipel.site.sandbox.denial import name_denials
from archipel.site.sandbox.kernel import forgo_privileges
from archipel.site.sandbox.terms import Confinement
from archipel.spec import StateError

_FIRST_USER, _USERS = 20_000, 40_000


def confine(confinement: Confinement) -> None:
    """Close everything that `confinement` does not name; this process must not have started a thread.

    Raises:
        StateError: a wall that the agent has counted on does not stand: no task may run.
    """
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise StateError(f"{threads} threads run before the sandbox is closed", hint="report this: it is a fault")
    try:
        _keep_to(confinement.cores)
        _limit(confinement.limits)
        if os.geteuid() == 0:
            _count_as_a_user()
        forgo_privileges()
        if confinement.landlock:
            landlock.restrict(confinement)
        if confinement.seccomp:
            seccomp.install()
            name_denials()
    except OSError as error:
        hint = "see docs/concepts/sandbox.md; the agent looks anew at what the machine has when it is started again"
        raise StateError(f"the sandbox does not close: {error}", hint=hint) from error


def _keep_to(cores: int | None) -> None:
    """Run on so many of the cores there are, and not on the same as every other worker."""
    if cores is not None:
        there = sorted(os.sched_getaffinity(0))
        first = secrets.randbelow(len(there))
        os.sched_setaffinity(0, {there[(first + number) % len(there)] for number in range(cores)})


def _limit(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, most = resource.getrlimit(kind)
        allowed = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (allowed, allowed))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _count_as_a_user() -> None:
    """Take a real user id of our own: the kernel counts processes by it, and never root's; files go by the other one.

    Root of a container with users of its own is no root to the kernel: there nobody need be become, nor may.
    """
    with contextlib.suppress(OSError):
        os.setresuid(_FIRST_USER + secrets.randbelow(_USERS), 0, 0)
