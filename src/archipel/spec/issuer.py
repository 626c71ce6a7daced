"""The file by which a control plane lets people of an OpenID Connect issuer in, and what they are given to log in.

issuer = "https://login.hospital.example/realms/main"
client_id = "archipel"
[roles]                              # value of the claim → role; the first line that fits counts
archipel-admins = "admin"
archipel-scientists = "scientist"
"""

from __future__ import annotations

import tomllib
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta, field

from archipel.spec.canonical import Name, Value
from archipel.spec.errors import SpecError, TrustError, UnknownNameError
from archipel.spec.keys import refuse_unknown
from archipel.spec.people import Person, PersonName, Role

_HTTPS = Annotated[str, Meta(pattern=r"^https://[^\s?#]+$", description="an address that begins with https://")]


class IssuerFile(Value, frozen=True, kw_only=True):
    """Whose people are let in, and as what."""

    issuer: _HTTPS
    """Its discovery document lies at issuer/.well-known/openid-configuration."""
    client_id: Annotated[str, Meta(min_length=1)]
    """What the issuer calls this control plane: a public client that may use the device flow (RFC 8628)."""
    ca: str | None = None
    """PEM file of the CA of the issuer's own certificate, beside this file; None: the machine's CAs."""
    name: str = "preferred_username"
    """Claim that becomes the account's name, in lower case."""
    claim: str = "groups"
    """Claim that roles are given by: a text or a list of texts."""
    roles: dict[str, Role]
    sites: dict[str, tuple[Name, ...]] = field(default_factory=dict)
    """Value of the claim → the sites that a data owner with it answers for."""
    scope: str = "openid profile"
    """What is asked of the issuer; some give groups only for a scope of their own."""


class IssuerView(Value, frozen=True, kw_only=True):
    """What somebody needs to get a token of the issuer by the device flow."""

    issuer: str
    client_id: str
    scope: str
    device_authorization_endpoint: _HTTPS
    token_endpoint: _HTTPS
    ca_pem: str | None = None


class IssuerLogin(Value, frozen=True, kw_only=True):
    """Ask to be let in with an ID token."""

    id_token: str


def read_issuer(data: bytes, where: str) -> IssuerFile:
    """Read and check the bytes of an issuer's file; `where` names it in errors.

    Raises:
        SpecError: it is not TOML, or a value has the wrong type.
        UnknownNameError: a key or a role does not exist; the hint names the nearest one.
    """
    try:
        document: dict[str, Any] = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{where} is not valid TOML: {error}", hint="mend the line it names") from error
    refuse_unknown(document, IssuerFile, where)
    roles = document.get("roles")
    for role in roles.values() if isinstance(roles, dict) else ():
        if role not in get_args(Role):
            raise UnknownNameError.of(f"role in {where} [roles]:", str(role), get_args(Role))
    try:
        return msgspec.convert(document, IssuerFile)
    except msgspec.ValidationError as error:
        hint = "the page on accounts and roles shows a whole file"
        raise SpecError(f"{where}: {error}", hint=hint) from error


def person_of(claims: dict[str, Any], file: IssuerFile) -> Person:
    """Return who these verified claims are about.

    Raises:
        TrustError: they give no name that may be one, or no role.
    """
    name = _name(claims, file)
    held = claims.get(file.claim)
    values = {value for value in (held if isinstance(held, list) else [held]) if isinstance(value, str)}
    role = next((role for value, role in file.roles.items() if value in values), None)
    if role is None:
        hint = f"the issuer gives it by the claim {file.claim!r}; an admin adds a line to [roles] of the issuer's file"
        raise TrustError(f"{name} has no role here", hint=hint)
    if role != "data-owner":
        return Person(name=name, role=role)
    sites = tuple(sorted({site for value, names in file.sites.items() if value in values for site in names}))
    if not sites:
        hint = "an admin adds a line to [sites] of the issuer's file"
        raise TrustError(f"{name} is data-owner of no site here", hint=hint)
    return Person(name=name, role=role, sites=sites)


def _name(claims: dict[str, Any], file: IssuerFile) -> str:
    if file.name == "email" and claims.get("email_verified") is not True:
        raise TrustError(
            "the issuer has not verified this email", hint="have it verified there, or take another `name`"
        )
    try:
        return msgspec.convert(str(claims.get(file.name, "")).lower(), PersonName)
    except msgspec.ValidationError as error:
        hint = "name another one with `name` in the issuer's file"
        raise TrustError(f"the claim {file.name!r} holds no name for an account", hint=hint) from error
