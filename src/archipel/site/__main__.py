"""Run a site's agent: `python -m archipel.site --folder FOLDER`; exit codes are those of the error tree."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from archipel.site.agent import run_agent
from archipel.spec import ArchipelError


def main() -> int:
    """Run until SIGTERM or Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m archipel.site", description="Run a site's agent.")
    parser.add_argument("--folder", type=Path, required=True, help="the folder that `archipel join` made")
    parser.add_argument("--key", help="URL of the key that the spool is encrypted under")
    given = parser.parse_args()
    try:
        run_agent(given.folder, given.key or os.environ.get("ARCHIPEL_KEY") or None)
    except ArchipelError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"next:  {error.hint}\n" if error.hint else ""))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
