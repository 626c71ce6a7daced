"""Gates: named places at which a job of a test waits until the test lets it go on.

A gate stands in its way while the file NAME.closed is in the folder that ARCHIPEL_GATES names; who comes to a closed
gate leaves NAME.reached, so the test knows for certain where the job is.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

FOLDER = "ARCHIPEL_GATES"
_LOOK_SECONDS = 0.02


def come_to(name: str) -> None:
    """Wait here while the gate is closed."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    closed = Path(folder) / f"{name}.closed"
    if closed.exists():
        (Path(folder) / f"{name}.reached").touch()
    while closed.exists():
        time.sleep(_LOOK_SECONDS)
