"""Named crash points: places where a process may be killed, so that a test can kill it there.

    failpoint("control.update.before_commit")

does nothing, except where the environment says ARCHIPEL_FAILPOINT=name@marker, or name,name@marker: then the process
kills itself (SIGKILL, nothing is cleaned up) the first time it passes each of these names, noting the name in the file
`marker` so that the restarted process passes. A test reads all names from the source and dies at each; a name without
a test fails.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

VARIABLE = "ARCHIPEL_FAILPOINT"


def failpoint(name: str) -> None:
    """Die here if the environment asks for it; see the module."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    targets, _, path = wanted.partition("@")
    if name in targets.split(","):
        _die_once(name, Path(path))


def marker() -> Path | None:
    """Return the file in which processes note where they died, made if it is not there; None: none is asked to die."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return None
    path = Path(wanted.partition("@")[2])
    path.touch()
    return path


def _die_once(name: str, path: Path) -> None:
    import fcntl  # noqa: PLC0415 (only where processes are killed by signals)

    with path.open("a+") as died:
        fcntl.flock(died, fcntl.LOCK_EX)  # whoever passes another name at this moment dies with it, unnoted
        died.seek(0)
        if name in died.read().split():
            return
        died.write(f"{name}\n")
        died.flush()
        os.kill(os.getpid(), signal.SIGKILL)
