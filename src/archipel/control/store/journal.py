"""The journal of a run: every event its coordinator has taken, in order, never changed.

A run's state is this and nothing else: replayed into a fresh coordinator it gives the same state again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, func, insert, select, update

from archipel.control.store.tables import run_events
from archipel.federated.port import RunEvent, UpdateAccepted
from archipel.spec import Update, decode, encode


def append(connection: Connection, run: str, first: int, entries: Sequence[tuple[RunEvent, bool]], now: float) -> None:
    """Write (event, does it count an update?) at places `first`, `first` + 1 and so on.

    A place that is taken, or an update that was counted before, fails.
    """
    rows = []
    for place, (event, counts) in enumerate(entries, start=first):
        counted = event.update if isinstance(event, UpdateAccepted) and counts else None
        rows.append(
            {
                "run": run,
                "seq": place,
                "at": now,
                "event": encode(event).decode(),
                "round": None if counted is None else counted.round,
                "site": None if counted is None else counted.site,
            }
        )
    connection.execute(insert(run_events), rows)


def is_counted(connection: Connection, run: str, number: int, site: str) -> bool:
    """Was an update of this site counted in this round?"""
    here = (run_events.c.run == run) & (run_events.c.round == number) & (run_events.c.site == site)
    return connection.execute(select(run_events.c.seq).where(here)).first() is not None


def counted(connection: Connection, run: str, number: int) -> list[Update]:
    """Return the updates that were counted in a round."""
    here = (run_events.c.run == run) & (run_events.c.round == number)
    texts = connection.execute(select(run_events.c.event).where(here).order_by(run_events.c.seq)).scalars()
    return [decode(text.encode(), UpdateAccepted).update for text in texts]


def uncount(connection: Connection, run: str, number: int, site: str) -> None:
    """An accepted update was found unusable: the site may answer again. What happened stays written."""
    here = (run_events.c.run == run) & (run_events.c.round == number) & (run_events.c.site == site)
    connection.execute(update(run_events).where(here).values(round=None, site=None))


def replay(connection: Connection, run: str) -> Iterator[tuple[float, RunEvent]]:
    """Yield (when, event) from the first on."""
    question = select(run_events.c.at, run_events.c.event).where(run_events.c.run == run).order_by(run_events.c.seq)
    for at, text in connection.execute(question):
        yield at, decode(text.encode(), RunEvent)  # type: ignore[arg-type]  # msgspec reads unions as well


def length(connection: Connection, run: str) -> int:
    """Return how many events a run's journal holds."""
    return connection.execute(select(func.count()).where(run_events.c.run == run)).scalar_one()
