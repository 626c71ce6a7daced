"""Control's own log: one line an event, and of a failure its places only.

Values of variables are not shown: a traceback that prints them prints join secrets and operators' tokens.
"""

from __future__ import annotations

from typing import TextIO

import structlog


def log_plainly(stream: TextIO) -> None:
    """Write the process's log to `stream`, in colour where that is a terminal."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ],
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
