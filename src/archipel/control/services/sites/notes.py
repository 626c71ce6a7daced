"""What sites tell the operator, in bounds: a site that will not stop talking fills neither the database nor the log.

Each site has an hour that begins with its first note; in it so many notes are kept, one event says that the rest is
dropped, and the rest is. The allowance is the site's, whatever streams it opens; a control plane that starts anew
grants it anew.

Example:
    notes.keep("torgersen", Note(what="site.disk.low", level="warning"))
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from archipel.control.services.audit import EventLog
from archipel.spec import SpecError, encode
from archipel.spec.wire import Note

LONGEST_NOTE_BYTES = 16 * 1024
NOTES_AN_HOUR = 100
"""Of one site; a site in trouble says it once a task."""
_HOUR_SECONDS = 3600.0


class Allowance(msgspec.Struct, kw_only=True):
    """One site's present hour."""

    since: float
    """When it began, by the monotonic clock."""
    said: int = 0
    """Notes in it so far."""


class Notes:
    """Keeps sites' notes in the event log; safe for several threads."""

    def __init__(self, log: EventLog, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._monotonic = monotonic
        self._allowances: dict[str, Allowance] = {}
        self._lock = threading.Lock()

    def keep(self, site: str, note: Note) -> None:
        """Keep a note under the site's own name, if it is within bounds.

        Raises:
            SpecError: it is too long.
        """
        if len(encode(note)) > LONGEST_NOTE_BYTES:
            raise SpecError("the note is too long", hint=f"a note has at most {LONGEST_NOTE_BYTES} bytes")
        said = self._count(site)
        if said <= NOTES_AN_HOUR:
            event = self._log.event(note.what, actor=f"site/{site}", level=note.level, run=note.run, site=site)
            self._log.keep(msgspec.structs.replace(event, detail=note.detail))
        elif said == NOTES_AN_HOUR + 1:
            self._log.write("site.notes.dropped", level="warning", site=site, kept_an_hour=NOTES_AN_HOUR)

    def _count(self, site: str) -> int:
        """Count a note of this site; return how many it has said in its present hour."""
        now = self._monotonic()
        with self._lock:
            hour = self._allowances.get(site)
            if hour is None or now - hour.since >= _HOUR_SECONDS:
                hour = self._allowances[site] = Allowance(since=now)
            hour.said += 1
            return hour.said
