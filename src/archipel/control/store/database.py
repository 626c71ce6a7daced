"""The database: one code path for SQLite and PostgreSQL, questions in snapshots, changes in grouped commits.

A change is a function of a connection. Changes asked for while another commit is on its way to the disk are carried
out together in the next transaction, each in its own savepoint: a change that fails takes nobody with it, and one
fsync serves many (SQLite: 135 commits a second singly, 13,855 rows a second at 100 a commit).

A change has happened when `write` returns, and only then: SQLite runs with WAL and synchronous=FULL.

Example:
    >>> database = Database.open("sqlite:///control.db")
    >>> database.write(lambda connection: connection.execute(insert(sites).values(name="a", joined_at=0.0)))
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from archipel.control.store.failures import named
from archipel.control.store.tables import holder
from archipel.spec import LinkError, MissingExtraError, SpecError, StateError, StorageFullError

T = TypeVar("T")
Change = Callable[[Connection], T]

BATCH = 100
"""Changes in one commit, at most."""
_URLS = "use sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME"


class Database:
    """An open database; safe for several threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._queue: deque[_Pending] = deque()
        self._writer = threading.Lock()
        self._epoch: int | None = None
        # A transaction of SQLite sees one snapshot anyway.
        self._reading = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    @classmethod
    def open(cls, url: str) -> Database:
        """Open by URL, without looking at what is inside.

        Raises:
            SpecError: the URL names no database we speak to.
            MissingExtraError: PostgreSQL without its driver.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise SpecError("the database URL cannot be read", hint=_URLS) from error
        if parsed.drivername not in {"sqlite", "postgresql+psycopg"}:
            raise SpecError(f"no support for database {parsed.drivername!r}", hint=_URLS)
        try:
            engine = create_engine(parsed, pool_pre_ping=parsed.drivername != "sqlite")
        except ModuleNotFoundError as error:
            hint = "pip install -e '.[postgres]' in the checkout"
            raise MissingExtraError("PostgreSQL needs psycopg", hint=hint) from error
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        return cls(engine)

    @property
    def is_sqlite(self) -> bool:
        """Is it a local SQLite file?"""
        return self.engine.dialect.name == "sqlite"

    def fence(self, epoch: int) -> None:
        """From now on commit only while the holder's row still says `epoch`."""
        self._epoch = epoch

    def read(self, question: Change[T]) -> T:
        """Answer a question about one moment: what is written meanwhile is not seen, and nothing can be written."""
        try:
            with self.engine.connect().execution_options(**self._reading) as connection, connection.begin():
                return question(connection)
        except SQLAlchemyError as error:
            raise named(error) from error

    def write(self, change: Change[T]) -> T:
        """Carry out a change; durable when this returns. Raises what the change raises, or why it could not be kept."""
        pending = _Pending(change)
        self._queue.append(pending)
        with self._writer:
            while not pending.done:
                self._commit()
        value: T = pending.answer()
        return value

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _commit(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        try:
            with self.engine.connect().execution_options(archipel_write=True) as connection, connection.begin():
                self._check_epoch(connection)
                for pending in batch:
                    pending.carry_out(connection)
        except Exception as error:  # noqa: BLE001 - given to everyone who waits for this commit
            failure = named(error) if isinstance(error, SQLAlchemyError) else error
            for pending in batch:
                pending.fail(failure)
        for pending in batch:
            pending.done = True

    def _check_epoch(self, connection: Connection) -> None:
        if self._epoch is None:
            return
        found = connection.execute(select(holder.c.epoch).where(holder.c.id == 1).with_for_update(read=True)).scalar()
        if found != self._epoch:
            raise StateError(
                "another control plane has taken over this database", hint="stop this one; nothing it asked was kept"
            )


class _Pending:
    """A change on its way."""

    def __init__(self, change: Change[Any]) -> None:
        self._change = change
        self._value: Any = None
        self._error: Exception | None = None
        self.done = False

    def carry_out(self, connection: Connection) -> None:
        try:
            with connection.begin_nested():
                self._value = self._change(connection)
        except SQLAlchemyError as error:
            failure = named(error)
            if isinstance(failure, StorageFullError | LinkError):
                raise  # the transaction itself is gone, for everyone in it
            failure.__cause__ = error
            self._error = failure
        except Exception as error:  # noqa: BLE001 - raised again to the one who asked, by answer()
            self._error = error

    def fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error

    def answer(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


def _prepare_sqlite(engine: Engine) -> None:
    """WAL, full durability, and transactions that begin when we say so (the driver's own habits are switched off)."""

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("archipel_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
