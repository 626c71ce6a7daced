"""What a command answers with `--json`: one document on stdout, and nothing beside it."""

from __future__ import annotations

import contextlib
import sys


def stdout_alone(*, as_json: bool) -> contextlib.AbstractContextManager[object]:
    """Send what is printed meanwhile to stderr where JSON is wanted: a task's code may print what it likes."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
