"""Refusals in the audit log, in bounds: whoever is refused without end fills neither the log nor the disk.

Each person or address may leave FIRST refusals in the log at once and then AN_HOUR more an hour, and all together
ALL_AN_HOUR. The rest is counted: the next one that is kept says how many before it were not, and an event says, at most
once an hour, that some were left out. No secret and no text of a stranger's is kept: of an address only its template.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from msgspec import structs

from archipel.control.services.accounts.limiter import Limiter
from archipel.control.services.audit import EventLog, Fact
from archipel.spec import ArchipelError

FIRST = 10
AN_HOUR = 20
ALL_AN_HOUR = 500
_HOUR_SECONDS = 3600.0


class Refusals:
    """Writes down who was refused; safe for several threads."""

    def __init__(self, log: EventLog, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._each = Limiter(every_seconds=_HOUR_SECONDS / AN_HOUR, at_once=FIRST, clock=monotonic)
        self._all = Limiter(every_seconds=_HOUR_SECONDS / ALL_AN_HOUR, at_once=ALL_AN_HOUR, clock=monotonic)
        self._notices = Limiter(every_seconds=_HOUR_SECONDS, at_once=1, clock=monotonic)
        self._left_out = 0
        self._lock = threading.Lock()

    def note(self, what: str, *, actor: str, reason: str, **detail: Fact) -> None:
        """Keep an event of level warning, if it is within bounds; where the log cannot be written, it is left out."""
        if self._each.take(actor) or self._all.take(""):
            with self._lock:
                self._left_out += 1
            if self._notices.take("") == 0.0:
                self._write("refusals.left.out", "control", each_an_hour=AN_HOUR, all_an_hour=ALL_AN_HOUR)
            return
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        self._write(what, actor, reason=reason, left_out_before=left_out, **detail)

    def _write(self, what: str, actor: str, **detail: Fact) -> None:
        try:
            self._log.keep(structs.replace(self._log.event(what, actor=actor, level="warning"), detail=detail))
        except ArchipelError as error:
            structlog.get_logger().warning("refusal.not.logged", what=what, actor=actor, reason=error.message)
