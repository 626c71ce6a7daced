"""Rows of operator tokens: only their hashes."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from archipel.control.store.tables import tokens


def add(connection: Connection, secret_hash: str, name: str, now: float) -> None:
    """Remember a token."""
    connection.execute(insert(tokens).values(secret_hash=secret_hash, name=name, issued_at=now))


def name_of(connection: Connection, secret_hash: str) -> str | None:
    """Return whose token this is."""
    name: str | None = connection.execute(select(tokens.c.name).where(tokens.c.secret_hash == secret_hash)).scalar()
    return name
