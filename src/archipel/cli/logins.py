"""Log-ins: what a person who logged in holds, as a folder with an `operator.json` of their own (0600).

    .archipel/logins/NAME@HOST.PORT/operator.json

It is the same document as in control's state folder, so every command takes it in the same ways, and `login` makes
that folder the one later commands in this directory mean.
"""

from __future__ import annotations

import contextlib
import getpass
import sys
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import structs

from archipel.cli.client import Client
from archipel.cli.planes import CURRENT, HOME, OPERATOR, find_state, operator_of, remember
from archipel.security import write_secret
from archipel.spec import SpecError, StateError, TrustError, encode
from archipel.spec.people import Login
from archipel.spec.views import Operator

LOGINS = HOME / "logins"


def place_of(state: Path | None, control: str | None, ca: str | None) -> Operator:
    """Return how to reach a control plane, without a right to speak to it.

    Raises:
        SpecError: an address without the CA's fingerprint, or the reverse.
        TrustError: another CA answers there.
    """
    if control is None and ca is None:
        return structs.replace(operator_of(find_state(state)), token="")
    if control is None or ca is None:
        hint = "`archipel user add` printed both to the admin: --control URL --ca FINGERPRINT"
        raise SpecError("a control plane elsewhere needs its address and its CA's fingerprint", hint=hint)
    from archipel.site.link.enrolment import fetch_authority

    return Operator(url=control, ca_pem=fetch_authority(control.rstrip("/"), ca), token="")


def keep(place: Operator, login: Login) -> Path:
    """Write down a log-in and make later commands here use it; return the file."""
    address = urlsplit(place.url)
    folder = LOGINS / f"{login.person.name}@{address.hostname}.{address.port or 443}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / OPERATOR
    write_secret(file, encode(structs.replace(place, token=login.token)))
    remember(folder.resolve())
    return file


def end(state: Path | None) -> str:
    """End the log-in that is meant, here and at control; return whose it was.

    Raises:
        StateError: the owner's file is meant, which is no log-in.
    """
    folder = find_state(state)
    if folder.resolve().parent != LOGINS.resolve():
        hint = "`archipel login NAME` logs in; a state folder's own operator.json is no log-in"
        raise StateError("nobody is logged in here", hint=hint)
    name = folder.name.rpartition("@")[0]
    with Client(operator_of(folder)) as client, contextlib.suppress(TrustError):  # it had ended already
        client.log_out()
    (folder / OPERATOR).unlink()
    if CURRENT.is_file() and Path(CURRENT.read_text(encoding="utf-8").strip()) == folder.resolve():
        CURRENT.unlink()
    return name


def ask_password(prompt: str, *, twice: bool = False) -> str:
    """Ask for a password without showing it; where nobody sits at a terminal, read a line of stdin."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    given = getpass.getpass(f"{prompt}: ")
    if twice and getpass.getpass(f"{prompt}, again: ") != given:
        raise SpecError("the two passwords differ", hint="type the same twice")
    return given
