"""The event log: what happened, said once, in order, kept, and provable (see `heads`).

Example:
    >>> log = EventLog(database, time.time)
    >>> log.write("site.joined", actor="site/torgersen", site="torgersen")
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from archipel.control.store import log
from archipel.control.store.database import Database
from archipel.spec import Event
from archipel.spec.event import Level
from archipel.spec.views import EventsPage

Fact = bool | int | float | str | None
Clock = Callable[[], float]
PAGE = 1000
_LEVELS: tuple[Level, ...] = ("info", "warning", "error")


class EventLog:
    """Writes and reads events."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def event(
        self,
        what: str,
        *,
        actor: str = "control",
        level: Level = "info",
        run: str | None = None,
        site: str | None = None,
        **detail: Fact,
    ) -> Event:
        """Return an event that happens now."""
        return Event(at=self._clock(), what=what, actor=actor, level=level, run=run, site=site, detail=detail)

    def write(
        self,
        what: str,
        *,
        actor: str = "control",
        level: Level = "info",
        run: str | None = None,
        site: str | None = None,
        **detail: Fact,
    ) -> None:
        """Keep an event that happens now."""
        self.keep(self.event(what, actor=actor, level=level, run=run, site=site, **detail))

    def keep(self, *events: Event) -> None:
        """Keep events."""
        self._database.write(lambda connection: keep_within(connection, *events))

    def read(
        self, *, after: int = 0, run: str | None = None, site: str | None = None, level: Level = "info"
    ) -> EventsPage:
        """Return the next page of events of at least this level."""
        levels = None if level == "info" else _LEVELS[_LEVELS.index(level) :]
        return self._database.read(
            lambda connection: EventsPage(
                events=log.read(connection, after=after, limit=PAGE, run=run, site=site, levels=levels)
            )
        )


def keep_within(connection: Connection, *events: Event) -> None:
    """Keep events in the transaction of what they tell about."""
    log.append(connection, events)
