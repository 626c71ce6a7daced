"""`archipel user …`, `archipel login` and `archipel logout`: who may do what at a control plane, and being let in."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from archipel.cli.planes import Control, Json, OperatorFile, State, connect
from archipel.spec import SpecError, encode
from archipel.spec.people import Assignment, NewPerson, PasswordChange, PersonView, Role

user = App(name="user", help="Make, list, change and remove the accounts of people, and change one's own password.")
Name = Annotated[str, Parameter(help="Name of the account, such as ana or ana@hospital.example.")]
Sites = Annotated[
    tuple[str, ...],
    Parameter(name="--site", negative="", show_default=False, help="Site of a data owner; repeatable."),
]


@user.command
def add(
    name: Name,
    /,
    *,
    role: Annotated[Role, Parameter(help="What this person may do; the page on roles has the table.")],
    site: Sites = (),
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Make an account. The password is asked for, or read from stdin; its owner changes it with `user password`."""
    from archipel.cli.logins import ask_password
    from archipel.security import fingerprint

    with connect(state, control, operator) as client:
        new = NewPerson(
            name=name, role=role, sites=site, password=ask_password(f"first password of {name}", twice=True)
        )
        made = client.add_person(new)
        url, ca = client.operator.url, fingerprint(client.operator.ca_pem)
    if as_json:
        print(encode(made).decode())
        return
    _say(f"{name} is {role}; from elsewhere they log in with:", f"archipel login {name} --control {url} --ca {ca}")


@user.command(name="list")
def list_(
    *, state: State = None, control: Control = None, operator: OperatorFile = None, as_json: Json = False
) -> None:
    """Show all accounts, with their roles and how many log-ins hold."""
    with connect(state, control, operator) as client:
        found = client.people()
    if as_json:
        print(encode({"people": found}).decode())
        return
    table = Table(box=None, header_style="bold")
    for column in ("name", "role", "sites", "comes by", "log-ins", "since"):
        table.add_column(column)
    for one in found:
        since = dt.datetime.fromtimestamp(one.added_at, dt.UTC).strftime("%Y-%m-%d")
        table.add_row(one.name, one.role, ", ".join(one.sites), one.origin, str(one.logins), since)
    Console().print(table)


@user.command
def role(
    name: Name,
    role: Annotated[Role, Parameter(help="The new role.")],
    /,
    *,
    site: Sites = (),
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Give somebody another role; it counts from their next request on."""
    with connect(state, control, operator) as client:
        changed = client.assign_role(name, Assignment(role=role, sites=site))
    _show(changed, f"{name} is {role} now", as_json=as_json)


@user.command
def remove(
    name: Name,
    /,
    *,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Remove an account; its log-ins end at once."""
    with connect(state, control, operator) as client:
        was = client.remove_person(name)
    _show(was, f"{name} is removed; {was.logins} log-ins ended", as_json=as_json)


@user.command
def password(
    *, state: State = None, control: Control = None, operator: OperatorFile = None, as_json: Json = False
) -> None:
    """Change your own password; all of your log-ins end. From stdin, the old one comes first, on a line of its own."""
    from archipel.cli.logins import ask_password

    with connect(state, control, operator) as client:
        old = ask_password("present password")
        changed = client.change_password(PasswordChange(old=old, new=ask_password("new password", twice=True)))
    if as_json:
        print(encode(changed).decode())
        return
    _say(f"the password of {changed.name} is changed; log in again")


def login(
    name: Annotated[str | None, Parameter(help="Name of your account; the issuer knows it by itself.")] = None,
    /,
    *,
    issuer: Annotated[
        bool, Parameter(negative="", show_default=False, help="Log in in a browser, at the OIDC issuer.")
    ] = False,
    state: State = None,
    control: Annotated[str | None, Parameter(help="Address of a control plane elsewhere; needs --ca.")] = None,
    ca: Annotated[str | None, Parameter(help="SHA-256 fingerprint of its CA, from whoever made the account.")] = None,
    as_json: Json = False,
) -> None:
    """Log in; later commands in this directory go as you, until `logout` or for twelve hours.

    The password is asked for, or read from stdin.
    """
    from archipel.cli import logins
    from archipel.cli.client import Client
    from archipel.cli.device import get_id_token
    from archipel.spec.people import PasswordLogin

    if issuer == (name is not None):
        hint = "`archipel login NAME`, or `archipel login --issuer`"
        raise SpecError("either a name or the issuer says who you are", hint=hint)
    place = logins.place_of(state, control, ca)
    with Client(place) as client:
        if name is None:
            made = client.log_in_by_issuer(get_id_token(client.issuer(), _ask))
        else:
            made = client.log_in(PasswordLogin(name=name, password=logins.ask_password(f"password of {name}")))
    file = logins.keep(place, made)
    if as_json:
        print(encode(made.person).decode())
        return
    until = dt.datetime.fromtimestamp(made.expires_at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    _say(f"{made.person.name} is {made.person.role} at {place.url} until {until} ({file})")


def logout(*, state: State = None) -> None:
    """End your log-in, here and at the control plane, where its token holds no more."""
    from archipel.cli import logins

    _say(f"{logins.end(state)} is logged out")


def _show(view: PersonView, said: str, *, as_json: bool) -> None:
    if as_json:
        print(encode(view).decode())
    else:
        _say(said)


def _ask(line: str) -> None:
    Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)


def _say(*lines: str) -> None:
    for line in lines:
        Console().print(line, highlight=False, markup=False, soft_wrap=True)
