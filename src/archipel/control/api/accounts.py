"""The people's door to accounts: log in, log out, and, for admins, who may do what."""

from __future__ import annotations

from typing import Any

from litestar import get, post
from litestar.params import FromPath, JSONBody

from archipel.control.api.guard import OPEN, needs, visit_of
from archipel.control.api.office import AnyRequest, Office, actor_of, office_of, person_of
from archipel.control.services.accounts.issuer import Issuer
from archipel.spec import StateError
from archipel.spec.issuer import IssuerLogin, IssuerView
from archipel.spec.people import (
    Assignment,
    Login,
    NewPerson,
    PasswordChange,
    PasswordLogin,
    PeoplePage,
    Person,
    PersonView,
)


@post("/v1/login", opt=needs(OPEN), security=[{}], sync_to_thread=True, status_code=200, tags=["people"])
def log_in(request: AnyRequest, data: JSONBody[PasswordLogin]) -> Login:
    """Log in with a name and a password; the token is shown once and ends by itself."""
    office = office_of(request)
    return office.logins.log_in(data, visit_of(request).address, office.random)


@get("/v1/login/issuer", opt=needs(OPEN), security=[{}], sync_to_thread=True, tags=["people"])
def issuer(request: AnyRequest) -> IssuerView:
    """Return where to get an ID token by the device flow."""
    return _issuer(office_of(request)).view()


@post("/v1/login/issuer", opt=needs(OPEN), security=[{}], sync_to_thread=True, status_code=200, tags=["people"])
def log_in_by_issuer(request: AnyRequest, data: JSONBody[IssuerLogin]) -> Login:
    """Log in with an ID token of the OIDC issuer; it is taken once."""
    office = office_of(request)
    identify, address = _issuer(office).identify, visit_of(request).address
    return office.logins.log_in_by(identify, data.id_token, address, office.random)


@get("/v1/login", opt=needs("self"), sync_to_thread=False, tags=["people"])
def whoami(request: AnyRequest) -> Person:
    """Return who asks, and their role."""
    return person_of(request)


@post("/v1/logout", opt=needs("self"), sync_to_thread=True, status_code=200, tags=["people"])
def log_out(request: AnyRequest) -> Person:
    """End the log-in whose token this request carries."""
    return office_of(request).logins.end(visit_of(request).token or "", person_of(request))


@post("/v1/password", opt=needs("self"), sync_to_thread=True, status_code=200, tags=["people"])
def change_password(request: AnyRequest, data: JSONBody[PasswordChange]) -> Person:
    """Replace one's own password; all of one's log-ins end."""
    person = person_of(request)
    office_of(request).logins.change_password(person.name, data, visit_of(request).address)
    return person


@get("/v1/people", opt=needs("people.read"), sync_to_thread=True, tags=["people"])
def people(request: AnyRequest) -> PeoplePage:
    """Return all accounts."""
    return office_of(request).people.list()


@post("/v1/people", opt=needs("people.change"), sync_to_thread=True, tags=["people"])
def add(request: AnyRequest, data: JSONBody[NewPerson]) -> PersonView:
    """Make an account."""
    return office_of(request).people.add(data, actor_of(request))


@post("/v1/people/{person:str}/role", opt=needs("people.change"), sync_to_thread=True, status_code=200, tags=["people"])
def assign(request: AnyRequest, person: FromPath[str], data: JSONBody[Assignment]) -> PersonView:
    """Give somebody another role; it counts from their next request on."""
    return office_of(request).people.assign(person, data, actor_of(request))


@post(
    "/v1/people/{person:str}/remove", opt=needs("people.change"), sync_to_thread=True, status_code=200, tags=["people"]
)
def remove(request: AnyRequest, person: FromPath[str]) -> PersonView:
    """Remove an account; its log-ins end at once."""
    return office_of(request).people.remove(person, actor_of(request))


ACCOUNTS: list[Any] = [log_in, issuer, log_in_by_issuer, whoami, log_out, change_password, people, add, assign, remove]


def _issuer(office: Office) -> Issuer:
    if office.issuer is None:
        hint = "log in with a password: `archipel login NAME`; an admin names an issuer with `archipel up --oidc FILE`"
        raise StateError("nobody is let in by an OIDC issuer here", hint=hint)
    return office.issuer
