"""One control plane per state: a lock that the operating system (or PostgreSQL) drops when its holder dies.

The state folder is held by flock on `control.lock`; a PostgreSQL database by an advisory lock of a session that stays
open. Whoever holds them writes itself into the `holder` row with the next epoch, and every commit checks that the
epoch is still its own: a holder that lost its session cannot commit any more.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, delete, insert, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from archipel.control.store.database import Database
from archipel.control.store.failures import named
from archipel.control.store.tables import holder
from archipel.spec import SpecError, StateError, Value, decode, encode

_ADVISORY_KEY = 0x61726368  # "arch"


class Holder(Value, frozen=True, kw_only=True):
    """Who holds a state."""

    pid: int
    host: str
    since: float
    """Seconds since the Unix epoch."""


class FolderLock:
    """Holds a state folder until closed, or until the process dies."""

    def __init__(self, folder: Path, now: float) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # every site's update lies in it
        self.holder = Holder(pid=os.getpid(), host=socket.gethostname(), since=now)
        self._file: IO[bytes] = (folder / "control.lock").open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            found = self._file.read()
            self._file.close()
            raise held_by(str(folder), found) from error
        self._file.truncate(0)
        self._file.write(encode(self.holder))
        self._file.flush()

    def close(self) -> None:
        """Let go."""
        self._file.close()


class DatabaseLock:
    """Holds a database: an advisory lock where it is PostgreSQL, and the holder's row in any case."""

    def __init__(self, database: Database, me: Holder, session: Connection | None) -> None:
        self._database = database
        self._me = me
        self._session = session

    @classmethod
    def take(cls, database: Database, me: Holder) -> DatabaseLock:
        """Take the lock, before anything in the database is looked at.

        Raises:
            StateError: another control plane has it.
        """
        return cls(database, me, None if database.is_sqlite else _session(database))

    def sign(self) -> None:
        """Write the holder's row (its table is there now); from now on every commit checks it."""
        self._database.fence(self._database.write(lambda connection: _enter(connection, self._me)))

    def close(self) -> None:
        """Let go."""
        if self._session is not None:
            self._session.close()


def _session(database: Database) -> Connection:
    try:
        session = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        session.detach()  # never back to the pool: closed with the lock, or by the server when we die
        if session.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_KEY}).scalar():
            return session
    except SQLAlchemyError as error:
        raise named(error) from error
    found = b""
    if inspect(session).has_table(holder.name):
        row = session.execute(select(holder.c.pid, holder.c.host, holder.c.since)).first()
        found = b"" if row is None else encode(Holder(pid=row.pid, host=row.host, since=row.since))
    session.close()
    raise held_by("the database", found)


def held_by(place: str, found: bytes) -> StateError:
    """Return the error of a second control plane; `found` is what the holder wrote about itself."""
    try:
        other = decode(found, Holder)
        since = dt.datetime.fromtimestamp(other.since, tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
        who = f"process {other.pid} on {other.host}, since {since}"
    except SpecError:
        who = "a process that has not yet said its name"
    return StateError(f"{place} is held by another control plane: {who}", hint="use that one, or stop it first")


def _enter(connection: Connection, me: Holder) -> int:
    last = connection.execute(select(holder.c.epoch).where(holder.c.id == 1)).scalar() or 0
    connection.execute(delete(holder))
    connection.execute(insert(holder).values(id=1, epoch=last + 1, pid=me.pid, host=me.host, since=me.since))
    return int(last) + 1
