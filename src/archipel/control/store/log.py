"""Rows of the event log: appended, read, never changed."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, insert, select

from archipel.control.store.tables import events
from archipel.spec import Event, encode
from archipel.spec.views import LoggedEvent


def append(connection: Connection, event: Event) -> None:
    """Write one event."""
    connection.execute(
        insert(events).values(
            at=event.at,
            what=event.what,
            actor=event.actor,
            level=event.level,
            run=event.run,
            site=event.site,
            detail=encode(event.detail).decode(),
        )
    )


def read(
    connection: Connection,
    *,
    after: int = 0,
    limit: int = 1000,
    run: str | None = None,
    site: str | None = None,
    levels: tuple[str, ...] | None = None,
) -> tuple[LoggedEvent, ...]:
    """Return events with an id over `after`, in order."""
    question = select(events).where(events.c.id > after).order_by(events.c.id).limit(limit)
    if run is not None:
        question = question.where(events.c.run == run)
    if site is not None:
        question = question.where(events.c.site == site)
    if levels is not None:
        question = question.where(events.c.level.in_(levels))
    return tuple(
        LoggedEvent(
            id=row.id,
            event=Event(
                at=row.at,
                what=row.what,
                actor=row.actor,
                level=row.level,
                run=row.run,
                site=row.site,
                detail=msgspec.json.decode(row.detail),
            ),
        )
        for row in connection.execute(question)
    )
