"""How this program and its files are called from here, so that what we print works when it is pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "archipel"


def program() -> str:
    """Return `archipel` where the shell finds this installation by that name, else the path that does.

    >>> program() != ""
    True
    """
    own = Path(sys.executable).parent / NAME
    found = shutil.which(NAME)
    if found is not None and Path(found).resolve() == own.resolve():
        return NAME
    if not own.is_file():
        return f"{shlex.quote(sys.executable)} -m archipel.cli.main"
    near = os.path.relpath(own)
    return shlex.quote(near if not near.startswith("..") else str(own))


def near(path: Path) -> Path:
    """Return a path as it is called from here."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
