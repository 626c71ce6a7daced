"""What a person sees when a command fails: what it was, and the next step; a traceback only on request.

error: no job file at job.toml
next:  give the path of a job.toml
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback

from cyclopts import CycloptsError

from archipel.spec import ArchipelError

BUG = 70
"""Exit code of a failure nobody foresaw (EX_SOFTWARE of sysexits.h)."""
USAGE = 2
DEBUG = "ARCHIPEL_DEBUG"
_DEFAULT_WAY_ON = (
    "nothing was lost; `archipel resume` goes on with an unfinished run, `archipel status` shows what runs"
)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with the way on; raised by commands that know it better than main does."""

    def __init__(self, way_on: str) -> None:
        super().__init__(way_on)
        self.way_on = way_on


def say_failure(error: Exception) -> int:
    """Print `error` with its next step and return the exit code."""
    if os.environ.get(DEBUG) == "1":
        traceback.print_exception(error)
    if isinstance(error, ArchipelError):
        _say(error.message, error.hint)
        return error.exit_code
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.filename):
        _say(f"{error.strerror}: {error.filename}", "mend the path or its permissions, then run the command again")
        return 1
    text = f"{type(error).__name__}: {error}"
    _say(text, f"this is a fault in archipel; run the command again with {DEBUG}=1 and report what it prints")
    return BUG


def say_usage(error: CycloptsError, words: list[str], names: list[str]) -> int:
    """Print what is wrong with the command line and return the exit code; `names` are the commands that exist."""
    command = words[0] if words and words[0] in names else None
    hint = f"`archipel {command} --help`" if command else "`archipel --help`"
    if command is None and words and not words[0].startswith("-"):
        near = difflib.get_close_matches(words[0], names, n=1, cutoff=0.5)
        if near:
            _say(f"unknown command {words[0]!r}", f"did you mean `archipel {near[0]}`?")
            return USAGE
    _say(" ".join(str(error).split()) or type(error).__name__, hint)
    return USAGE


def say_interrupted(error: KeyboardInterrupt) -> None:
    """Say how to go on after Ctrl-C."""
    way_on = error.way_on if isinstance(error, Interrupted) else _DEFAULT_WAY_ON
    sys.stderr.write(f"\ninterrupted: {way_on}\n")


def _say(message: str, hint: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    if hint:
        sys.stderr.write(f"next:  {hint}\n")
