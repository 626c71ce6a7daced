"""Named crash points: places where a process may be killed, so that a test can kill it there.

    failpoint("control.update.before_commit")

does nothing, except where the environment says ARCHIPEL_FAILPOINT=name@marker: then the process kills itself
(SIGKILL, nothing is cleaned up) the first time it passes that name, leaving the file `marker` so that the restarted
process passes. A test reads all names from the source and dies at each; a name without a test fails.
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
    target, _, marker = wanted.partition("@")
    if target == name and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
