"""Rows of people and of the tokens they hold: of tokens and passwords, only hashes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from archipel.control.store.tables import people, tokens
from archipel.spec import decode, encode
from archipel.spec.canonical import Name
from archipel.spec.people import Person


def person(connection: Connection, name: str) -> Row[Any] | None:
    """Return the row of a person."""
    return connection.execute(select(people).where(people.c.name == name)).first()


def everybody(connection: Connection, now: float) -> list[tuple[Row[Any], int]]:
    """Return all people by name, each with how many of their tokens hold."""
    counted = select(tokens.c.name, func.count().label("number")).where(_holds(now)).group_by(tokens.c.name)
    numbers = {row.name: row.number for row in connection.execute(counted)}
    rows = connection.execute(select(people).order_by(people.c.name)).all()
    return [(row, numbers.get(row.name, 0)) for row in rows]


def add(
    connection: Connection, person: Person, now: float, *, password: str | None = None, subject: str | None = None
) -> None:
    """Write a new person."""
    facts = {"role": person.role, "sites": encode(person.sites).decode()}
    row = {"name": person.name, "password": password, "subject": subject, "added_at": now, **facts}
    connection.execute(insert(people).values(row))


def assign(connection: Connection, person: Person) -> None:
    """Give a person the role and sites of `person`."""
    facts = {"role": person.role, "sites": encode(person.sites).decode()}
    connection.execute(update(people).where(people.c.name == person.name).values(facts))


def rename(connection: Connection, subject: str, name: str) -> bool:
    """Give whoever comes by this subject another name, and end their log-ins; False: there is nobody."""
    was = connection.execute(select(people.c.name).where(people.c.subject == subject)).scalar()
    if was is None:
        return False
    end_all(connection, was)
    connection.execute(update(people).where(people.c.subject == subject).values(name=name))
    return True


def set_password(connection: Connection, name: str, password: str) -> None:
    """Keep another hash of a password."""
    connection.execute(update(people).where(people.c.name == name).values(password=password))


def remove(connection: Connection, name: str) -> None:
    """Forget a person and all of their tokens."""
    end_all(connection, name)
    connection.execute(delete(people).where(people.c.name == name))


def hold(connection: Connection, secret_hash: str, name: str, now: float, expires_at: float | None) -> None:
    """Remember a token; None: it has no end."""
    values = {"secret_hash": secret_hash, "name": name, "issued_at": now, "expires_at": expires_at}
    connection.execute(insert(tokens).values(values))


def holder(connection: Connection, secret_hash: str, now: float) -> Person | None:
    """Return whose token this is, if it holds."""
    question = select(people).join(tokens, tokens.c.name == people.c.name)
    row = connection.execute(question.where(tokens.c.secret_hash == secret_hash, _holds(now))).first()
    return None if row is None else person_of(row)


def end(connection: Connection, secret_hash: str) -> None:
    """Forget a token."""
    connection.execute(delete(tokens).where(tokens.c.secret_hash == secret_hash))


def end_all(connection: Connection, name: str) -> int:
    """Forget all tokens of a person; return how many there were."""
    return connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount


def tidy(connection: Connection, name: str, now: float, most: int) -> None:
    """Forget this person's tokens that have ended, and the oldest of more than `most`."""
    connection.execute(delete(tokens).where(tokens.c.name == name, tokens.c.expires_at <= now))
    mine = select(tokens.c.secret_hash).where(tokens.c.name == name, tokens.c.expires_at.is_not(None))
    kept = connection.execute(mine.order_by(tokens.c.issued_at.desc(), tokens.c.secret_hash)).scalars().all()
    connection.execute(delete(tokens).where(tokens.c.secret_hash.in_(kept[most:])))


def person_of(row: Row[Any]) -> Person:
    """Return the person a row is about."""
    return Person(name=row.name, role=row.role, sites=decode(row.sites.encode(), tuple[Name, ...]))


def _holds(now: float) -> Any:
    return or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now)
