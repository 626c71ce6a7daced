"""The event log: appended, read, never changed; a Merkle tree over it grows in the same transaction.

An entry's leaf is the canonical bytes of its event. An append reads the peaks of the tree (log2 n rows), and writes
the entries and the places they complete, two a leaf on average. Where a place is taken already or a peak is missing,
somebody else has written to the log: nothing is appended any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, tuple_

from archipel.control.store.tables import audit_places, events
from archipel.security.audit import Place, grow, peaks
from archipel.spec import AuditError, Event, UnknownNameError, encode
from archipel.spec.views import LoggedEvent


def append(connection: Connection, added: Sequence[Event]) -> None:
    """Write events at the end of the log.

    Raises:
        AuditError: places of the tree are missing.
    """
    if not added:
        return
    before = size(connection)
    standing = hashes(connection, peaks(0, before))
    growth = grow(before, list(standing.values()), map(encode, added))
    connection.execute(insert(events), [_row(number, event) for number, event in enumerate(added, start=before + 1)])
    places = [{"level": level, "place": place, "hash": value} for (level, place), value in growth.places.items()]
    connection.execute(insert(audit_places), places)


def size(connection: Connection) -> int:
    """Return how many entries the log has."""
    return int(connection.execute(select(func.max(events.c.id))).scalar() or 0)


def hashes(connection: Connection, places: Iterable[Place]) -> dict[Place, bytes]:
    """Return the hashes of complete places, in their order.

    Raises:
        AuditError: one is missing.
    """
    wanted = list(dict.fromkeys(places))
    key = tuple_(audit_places.c.level, audit_places.c.place)
    found = {
        (row.level, row.place): row.hash for row in connection.execute(select(audit_places).where(key.in_(wanted)))
    }
    if len(found) < len(wanted):
        hint = "restore the database from a backup; `archipel audit verify` names what does not fit"
        raise AuditError("hashes of the audit log are missing", hint=hint)
    return {place: found[place] for place in wanted}


def entry(connection: Connection, number: int) -> Event:
    """Return one event; an UnknownNameError where the log has no such entry."""
    row = connection.execute(select(events).where(events.c.id == number)).first()
    if row is None:
        raise UnknownNameError(
            f"the log has no entry {number}", hint="`archipel logs --json` and GET /v1/events give numbers"
        )
    return _event(row)


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
    return tuple(LoggedEvent(id=row.id, event=_event(row)) for row in connection.execute(question))


def _row(number: int, event: Event) -> dict[str, Any]:
    return {
        "id": number,
        "at": event.at,
        "what": event.what,
        "actor": event.actor,
        "level": event.level,
        "run": event.run,
        "site": event.site,
        "detail": encode(event.detail).decode(),
    }


def _event(row: Row[Any]) -> Event:
    return Event(
        at=row.at,
        what=row.what,
        actor=row.actor,
        level=row.level,
        run=row.run,
        site=row.site,
        detail=msgspec.json.decode(row.detail),
    )
