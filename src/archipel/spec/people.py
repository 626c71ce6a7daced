"""People: who may do what at a control plane, and what they say to be let in.

    POST /v1/login                  PasswordLogin       → Login
    POST /v1/people                 NewPerson   → PersonView
    POST /v1/people/NAME/role       Assignment  → PersonView

What each role may do is one table: `archipel.security.access`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from archipel.spec.canonical import Name, Value

Role = Literal["viewer", "scientist", "operator", "data-owner", "auditor", "admin"]
Origin = Literal["owner", "local", "issuer"]
"""owner: holds operator.json; local: logs in with a password kept here; issuer: with a token of an OIDC issuer."""
PersonName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9._@+-]{0,99}$(?!\n)",
        description="lower-case letters, digits, '.', '_', '@', '+', '-'",
    ),
]
SHORTEST_PASSWORD = 12
"""Characters."""
Password = Annotated[str, Meta(max_length=1024)]


class Person(Value, frozen=True, kw_only=True):
    """Somebody who has been let in."""

    name: PersonName
    role: Role
    sites: tuple[Name, ...] = ()
    """Sites a data owner answers for; nobody else has any."""


class PersonView(Value, frozen=True, kw_only=True):
    """An account."""

    name: PersonName
    role: Role
    sites: tuple[Name, ...] = ()
    origin: Origin
    added_at: float
    logins: int
    """Log-ins that hold now."""


class PeoplePage(Value, frozen=True, kw_only=True):
    """All accounts, by name."""

    people: tuple[PersonView, ...]


class NewPerson(Value, frozen=True, kw_only=True):
    """Make an account; name and password are checked by control, which says what is wrong with them."""

    name: Annotated[str, Meta(max_length=200)]
    role: Role
    sites: tuple[Name, ...] = ()
    password: Password


class Assignment(Value, frozen=True, kw_only=True):
    """Give somebody another role; it counts from their next request on."""

    role: Role
    sites: tuple[Name, ...] = ()


class PasswordLogin(Value, frozen=True, kw_only=True):
    """Ask to be let in."""

    name: Annotated[str, Meta(max_length=100)]
    password: Password


class PasswordChange(Value, frozen=True, kw_only=True):
    """Replace one's own password; every log-in of that person ends."""

    old: Password
    new: Password


class Login(Value, frozen=True, kw_only=True):
    """A log-in; the token is shown once and not kept."""

    person: Person
    token: str
    """Sent as "Authorization: Bearer …"."""
    expires_at: float
