"""Environments of the peers: each has its own, so that what it pins meets nothing of ours but the version of torch.

python = environment("pfl", "pfl[pytorch]==0.6.0", "torch")     # .venv-bench/pfl/bin/python, made once
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def environment(name: str, *requirements: str) -> Path:
    """Return the interpreter of an environment with these requirements; made where the last one had others.

    Where they bring torch, it is the one of constraints.txt, from PIP_FIND_LINKS where that has it.

    Raises:
        subprocess.CalledProcessError: they cannot be installed; what uv says is on stderr.
    """
    home = ROOT / ".venv-bench" / name
    python, done = home / "bin/python", home / "requirements.txt"
    wanted = "\n".join([*requirements, ""])
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return python
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
    pinned = re.findall(r"^torch==.*$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    (home / "constraints.txt").write_text("\n".join([*pinned, ""]), encoding="utf-8")
    install = [*uv, "pip", "install", "--quiet", "--python", str(python), "--constraint", str(home / "constraints.txt")]
    links = {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")}
    subprocess.run([*install, *requirements], check=True, env={**os.environ, **links})
    done.write_text(wanted, encoding="utf-8")
    return python
