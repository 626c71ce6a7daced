"""People: accounts made, given other roles and removed, each change told in the log with who made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from archipel.control.services.accounts.passwords import Passwords, require_long
from archipel.control.services.audit import EventLog, keep_within
from archipel.control.store import people as rows
from archipel.control.store.database import Database
from archipel.spec import Event, SpecError, StateError, UnknownNameError
from archipel.spec.people import (
    Assignment,
    NewPerson,
    Origin,
    PeoplePage,
    Person,
    PersonName,
    PersonView,
)

OWNER = "admin"
"""The name of whoever holds operator.json."""


class People:
    """Keeps accounts."""

    def __init__(self, database: Database, log: EventLog, passwords: Passwords, clock: Callable[[], float]) -> None:
        self._database = database
        self._log = log
        self._passwords = passwords
        self._clock = clock

    def list(self) -> PeoplePage:
        """Return all accounts."""
        now = self._clock()
        found = self._database.read(lambda connection: rows.everybody(connection, now))
        return PeoplePage(people=tuple(_view(row, logins) for row, logins in found))

    def add(self, new: NewPerson, actor: str) -> PersonView:
        """Make an account.

        Raises:
            StateError: the name is taken.
            SpecError: the name is none, the password is too short, or sites do not go with the role.
        """
        person = _checked(Person(name=_name(new.name), role=new.role, sites=new.sites))
        require_long(new.password)
        now = self._clock()
        kept = self._passwords.hash(new.password)
        said = self._said("person.added", actor, person)

        def change(connection: Connection) -> None:
            if rows.person(connection, person.name) is not None:
                hint = f"`archipel user role {person.name} ROLE` changes a role; `archipel user list` shows all"
                raise StateError(f"there is a {person.name} already", hint=hint)
            rows.add(connection, person, now, password=kept)
            keep_within(connection, said)

        self._database.write(change)
        return self._show(person.name)

    def assign(self, name: str, assignment: Assignment, actor: str) -> PersonView:
        """Give somebody another role, from their next request on."""
        person = _checked(Person(name=name, role=assignment.role, sites=assignment.sites))
        said = self._said("person.assigned", actor, person)

        def change(connection: Connection) -> None:
            if _require_changeable(connection, name).subject is not None:
                hint = "change it there, or in [roles] of the issuer's file; it counts from the next log-in on"
                raise StateError(f"{name} has the role that the OIDC issuer gives", hint=hint)
            rows.assign(connection, person)
            keep_within(connection, said)

        self._database.write(change)
        return self._show(name)

    def remove(self, name: str, actor: str) -> PersonView:
        """Remove an account and end its log-ins, at once; return what it was."""
        was = self._show(name)
        said = self._log.event("person.removed", actor=actor, name=name, logins=was.logins)

        def change(connection: Connection) -> None:
            _require_changeable(connection, name)
            rows.remove(connection, name)
            keep_within(connection, said)

        self._database.write(change)
        return was

    def _said(self, what: str, actor: str, person: Person) -> Event:
        sites = ", ".join(person.sites)
        return self._log.event(what, actor=actor, name=person.name, role=person.role, sites=sites)

    def _show(self, name: str) -> PersonView:
        found = {view.name: view for view in self.list().people}
        if name not in found:
            raise UnknownNameError.of("person", name, found)
        return found[name]


def _name(text: str) -> str:
    try:
        return msgspec.convert(text, PersonName)
    except msgspec.ValidationError as error:
        hint = "take lower-case letters, digits and . _ @ + -, such as ana or ana@hospital.example"
        raise SpecError(f"{text!r} is no name of an account", hint=hint) from error


def _checked(person: Person) -> Person:
    if person.sites and person.role != "data-owner":
        raise SpecError(f"{person.role} is a role without sites", hint="leave out --site, or take --role data-owner")
    if person.role == "data-owner" and not person.sites:
        raise SpecError("a data owner answers for sites", hint="name each with --site NAME")
    return person


def _require_changeable(connection: Connection, name: str) -> Row[Any]:
    row = rows.person(connection, name)
    if row is None:
        raise UnknownNameError(f"unknown person {name!r}", hint="`archipel user list` shows all")
    if name == OWNER:
        hint = "delete operator.json in the state folder and start control anew: it makes another, and the old one ends"
        raise StateError(f"{OWNER} is whoever holds operator.json, and stays admin", hint=hint)
    return row


def _view(row: Row[Any], logins: int) -> PersonView:
    person = rows.person_of(row)
    origin: Origin = "local" if row.password else "issuer" if row.subject else "owner"
    return PersonView(
        name=person.name,
        role=person.role,
        sites=person.sites,
        origin=origin,
        added_at=row.added_at,
        logins=logins,
    )
