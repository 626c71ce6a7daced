"""What a database's errors mean in the error tree."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from archipel.spec import ArchipelError, LinkError, StateError, StorageFullError

_FULL = ("database or disk is full", "No space left on device", "disk I/O error")
_DISK_FULL_SQLSTATE = "53100"


def named(error: SQLAlchemyError) -> ArchipelError:
    """Return the error of the tree for a database error."""
    full = next((text for text in _chain(error) if any(words in text for words in _FULL)), None)
    text = full or str(getattr(error, "orig", error)).strip() or str(error)
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if full or state == _DISK_FULL_SQLSTATE:
        hint = "free some space; the work goes on by itself"
        return StorageFullError(f"the database has no space: {text}", hint=hint)
    if isinstance(error, IntegrityError):
        return StateError(f"the database refuses it: {text}", hint="read the present state and ask again")
    if isinstance(error, OperationalError):
        return LinkError(f"the database cannot be reached: {text}", hint="check the server and its address")
    if isinstance(error, DBAPIError):
        return StateError(f"the database failed: {text}", hint="look at the database's own log")
    return StateError(f"the database failed: {text}", hint="look at the control plane's log")


def _chain(error: BaseException | None) -> Iterator[str]:
    """Yield what an error says and what led to it: a full SQLite also loses the savepoint one would go back to."""
    while error is not None:
        yield str(getattr(error, "orig", error)).strip()
        error = error.__cause__ or error.__context__
