"""Logins: a log-in is a random token of 256 bits, kept as its hash, that ends by itself or by word.

    log_in(name, password)  → a token                     (POST /v1/login)
    who(token)              → the person, or a TrustError  (every request)
    end(token)                                            (POST /v1/logout)

Nothing is remembered between requests: what the database says now is what counts, so a removed person, a changed role
and an ended log-in count from the next request on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row

from archipel.control.services.accounts.limiter import Limiter, network_of
from archipel.control.services.accounts.passwords import Passwords, require_long
from archipel.control.services.accounts.people import OWNER
from archipel.control.services.accounts.refusals import Refusals
from archipel.control.services.audit import EventLog, keep_within
from archipel.control.store import people as rows
from archipel.control.store.database import Database
from archipel.spec import StateError, TooManyError, TrustError
from archipel.spec.people import Login, PasswordChange, PasswordLogin, Person

SECRET_BYTES = 32
LOGIN_SECONDS = 12 * 3600.0
"""A log-in ends by itself after a working day."""
LOGINS_EACH = 20
"""Log-ins of one person that hold at a time; one more ends the oldest."""
TRIES_AT_ONCE = 10
"""Tries to log in, for one name and from one address, right or wrong …"""
TRY_SECONDS = 30.0
"""… and one more after each of these."""


class Logins:
    """Lets people in and knows them again."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        passwords: Passwords,
        refusals: Refusals,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._database = database
        self._log = log
        self._passwords = passwords
        self._refusals = refusals
        self._clock = clock
        self._tries = Limiter(every_seconds=TRY_SECONDS, at_once=TRIES_AT_ONCE, clock=monotonic)

    def log_in(self, login: PasswordLogin, address: str, random: Callable[[int], bytes]) -> Login:
        """Let somebody in who says the right password.

        Raises:
            TrustError: name or password is wrong; it is not said which.
            TooManyError: too many tries for this name or from this address.
        """
        return self.begin(rows.person_of(self._prove(login, address)), address, "password", random)

    def log_in_by(
        self, identify: Callable[[str], Person], id_token: str, address: str, random: Callable[[int], bytes]
    ) -> Login:
        """Let somebody in whom `identify` knows by an ID token.

        Raises:
            TrustError: the token is not to be believed; the message names the reason.
            TooManyError: too many tries from this address.
        """
        network = network_of(address)
        try:
            self._count_try(f"address {network}")
            person = identify(id_token)
        except (TrustError, TooManyError) as error:
            self._refusals.note("login.refused", actor=f"address/{network}", reason=error.message, way="issuer")
            raise
        return self.begin(person, address, "issuer", random)

    def begin(self, person: Person, address: str, way: str, random: Callable[[int], bytes]) -> Login:
        """Make a token for somebody who has shown who they are."""
        token, now = random(SECRET_BYTES).hex(), self._clock()
        until = now + LOGIN_SECONDS
        said = self._log.event(
            "login.accepted", actor=f"person/{person.name}", address=address, way=way, role=person.role
        )

        def change(connection: Connection) -> None:
            if rows.person(connection, person.name) is None:
                raise TrustError("the account was removed", hint="ask an admin for another")
            rows.hold(connection, hash_of(token), person.name, now, until)
            rows.tidy(connection, person.name, now, LOGINS_EACH)
            keep_within(connection, said)

        self._database.write(change)
        return Login(person=person, token=token, expires_at=until)

    def who(self, token: str) -> Person:
        """Return whose token this is.

        Raises:
            TrustError: nobody's, or it has ended.
        """
        now = self._clock()
        person = self._database.read(lambda connection: rows.holder(connection, hash_of(token), now))
        if person is None:
            hint = (
                "log in again with `archipel login`; on control's machine, operator.json in its state folder holds one"
            )
            raise TrustError("the bearer token is not known, or has ended", hint=hint)
        return person

    def end(self, token: str, person: Person) -> Person:
        """End the log-in that has this token.

        Raises:
            StateError: it is the owner's, which no log-in gave and nothing here could give back.
        """
        if person.name == OWNER:
            hint = "delete operator.json in the state folder and start control anew: the token in it ends"
            raise StateError("the owner's token is no log-in", hint=hint)
        said = self._log.event("login.ended", actor=f"person/{person.name}")

        def change(connection: Connection) -> None:
            rows.end(connection, hash_of(token))
            keep_within(connection, said)

        self._database.write(change)
        return person

    def change_password(self, name: str, asked: PasswordChange, address: str) -> None:
        """Replace a person's own password and end all their log-ins; a wrong old one is a try to log in.

        Raises:
            SpecError: the new one is too short.
            TrustError: the old one is wrong, or there is none.
            TooManyError: too many tries for this name or from this address.
        """
        require_long(asked.new)
        self._prove(PasswordLogin(name=name, password=asked.old), address)
        kept = self._passwords.hash(asked.new)
        said = self._log.event("person.password.changed", actor=f"person/{name}", name=name)

        def change(connection: Connection) -> None:
            rows.set_password(connection, name, kept)
            rows.end_all(connection, name)
            keep_within(connection, said)

        self._database.write(change)

    def _prove(self, login: PasswordLogin, address: str) -> Row[Any]:
        """Return the row of whoever says the right password; refusals are noted."""
        row = self._database.read(lambda connection: rows.person(connection, login.name))
        network = network_of(address)
        about = login.name if row is not None else "unknown"  # what a stranger types may be a password
        try:
            self._count_try(f"address {network}")
            self._count_try(f"name {login.name}")
            return self._require(login, row)
        except (TrustError, TooManyError) as error:
            self._refusals.note("login.refused", actor=f"address/{network}", reason=error.message, name=about)
            raise

    def _require(self, login: PasswordLogin, row: Row[Any] | None) -> Row[Any]:
        if self._passwords.fits(login.password, None if row is None else row.password) and row is not None:
            return row
        hint = "an admin sees names with `archipel user list`, and can remove an account and add it anew"
        raise TrustError("the name or the password is wrong", hint=hint)

    def _count_try(self, key: str) -> None:
        """Count a try to log in; a TooManyError if there were too many."""
        wait = self._tries.take(key)
        if wait:
            hint = f"wait {wait:.0f} s and try again; it helps to wait longer"
            raise TooManyError("too many tries to log in", hint=hint, wait_seconds=wait)


def hash_of(token: str) -> str:
    """Return what control keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
