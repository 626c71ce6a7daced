"""Bring a database to the schema this code knows, and refuse one that a newer code has made.

Alembic is imported only when there is something to migrate: a start costs one question.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from archipel.control.store.database import Database
from archipel.spec import StateError

HEAD = "0004"
"""The newest revision this code knows; a test holds it against the migrations' own head."""
KNOWN = ("0001", "0002", "0003", "0004")
"""All revisions, oldest first."""


def upgrade(database: Database) -> None:
    """Migrate up to HEAD, in one transaction.

    Raises:
        StateError: the database was made by a newer archipel; nothing in it was touched.
    """
    found = database.read(revision)
    if found == HEAD:
        return
    if found is not None and found not in KNOWN:
        raise StateError(
            f"the database is of revision {found}, newer than this archipel (revision {HEAD})",
            hint="start the version that made it, or restore a backup from before the upgrade",
        )
    database.write(_migrate)


def revision(connection: Connection) -> str | None:
    """Return the revision a database is at; None: empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _migrate(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - see the module
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
