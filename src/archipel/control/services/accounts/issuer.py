"""People of an OpenID Connect issuer: its documents fetched and kept a while, its tokens turned into people.

The issuer is asked only where it has to be: its documents are kept for KEPT_SECONDS, and earlier they are fetched again
only for a key that is not known (keys rotate), and not more often than the limiter lets, so that made-up tokens do not
become requests to the issuer. A token lets in once.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
from sqlalchemy import Connection

from archipel.control.services.accounts.limiter import Limiter
from archipel.control.services.accounts.people import OWNER
from archipel.control.store import people as rows
from archipel.control.store.database import Database
from archipel.security.oidc import LONGEST_SECONDS, Expected, UnknownKeyError, require_library, verify
from archipel.spec import LinkError, SpecError, TrustError, digest_of
from archipel.spec.issuer import IssuerFile, IssuerView, person_of, read_issuer
from archipel.spec.people import Person

KEPT_SECONDS = 300.0
"""The issuer's documents are fetched again after this long: a key it withdrew is not believed for longer."""
FETCH_SECONDS = 10.0
"""Between two fetches, once two were made at once."""
MAX_DOCUMENT_BYTES = 1024 * 1024
_TIMEOUT_SECONDS = 10.0


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """What the issuer says about itself."""

    view: IssuerView
    keys: tuple[dict[str, Any], ...]
    fetched: float


class Issuer:
    """Lets people of one issuer in; safe for several threads."""

    def __init__(
        self,
        file: IssuerFile,
        ca_pem: str | None,
        database: Database,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._file = file
        self._ca_pem = ca_pem
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._expected = Expected(issuer=file.issuer, client_id=file.client_id)
        self._fetches = Limiter(every_seconds=FETCH_SECONDS, at_once=2, clock=monotonic)
        self._documents: Documents | None = None
        self._spent: dict[str, float] = {}
        self._spending = threading.Lock()
        self._fetching = threading.Lock()

    @classmethod
    def open(cls, path: Path, database: Database, clock: Callable[[], float], mono: Callable[[], float]) -> Issuer:
        """Read the issuer's file; nobody is asked yet.

        Raises:
            SpecError: the file, or the CA it names, cannot be read.
            MissingExtraError: tokens cannot be verified here.
        """
        require_library()
        file = read_issuer(_read(path), str(path))
        ca_pem = None if file.ca is None else _read(path.parent / file.ca).decode()
        return cls(file, ca_pem, database, clock, mono)

    def view(self) -> IssuerView:
        """Return what is needed to get a token."""
        return self._current().view

    def identify(self, id_token: str) -> Person:
        """Return who a token is about, with an account made or brought up to date; the token is spent.

        Raises:
            TrustError: it is not to be believed, was used before, or gives no role or no name.
            LinkError: the issuer cannot be reached.
        """
        claims = self._verify(id_token)
        self._spend(id_token)
        person = person_of(claims, self._file)
        subject, now = f"{self._file.issuer} {claims['sub']}", self._clock()
        self._database.write(lambda connection: _settle(connection, person, subject, now))
        return person

    def _verify(self, id_token: str) -> dict[str, Any]:
        documents = self._current()
        try:
            return verify(id_token, documents.keys, self._expected, self._clock())
        except UnknownKeyError:
            newer = self._renew(documents)
            if newer is None:
                raise
            return verify(id_token, newer.keys, self._expected, self._clock())

    def _spend(self, id_token: str) -> None:
        """Take a token once; it is remembered for as long as it could be shown again.

        What was signed is remembered, and not the signature: of one ECDSA signature anybody can make a second.
        """
        now, digest = self._clock(), digest_of(id_token.rpartition(".")[0].encode())
        with self._spending:
            self._spent = {each: until for each, until in self._spent.items() if until > now}
            if digest in self._spent:
                hint = "log in again with `archipel login --issuer`"
                raise TrustError("the token is refused: it was used before", hint=hint)
            self._spent[digest] = now + 2 * LONGEST_SECONDS

    def _current(self) -> Documents:
        known = self._documents
        if known is not None and self._monotonic() - known.fetched < KEPT_SECONDS:
            return known
        newer = self._renew(known)
        if newer is None:
            hint = f"try again in {FETCH_SECONDS:g} s; accounts with a password can log in"
            raise LinkError("the issuer is being asked, or could not be reached a moment ago", hint=hint)
        return newer

    def _renew(self, known: Documents | None) -> Documents | None:
        """Fetch documents newer than the `known` ones; None where that is being done, or was too often."""
        if not self._fetching.acquire(blocking=False):  # a slow issuer holds one thread, not all
            return None
        try:
            if self._documents is known:
                if self._fetches.take(""):
                    return None
                self._documents = self._fetch()
            return self._documents
        finally:
            self._fetching.release()

    def _fetch(self) -> Documents:
        context = ssl.create_default_context(cadata=self._ca_pem)
        try:
            with httpx.Client(verify=context, timeout=_TIMEOUT_SECONDS, trust_env=False) as http:
                found = _get(http, self._file.issuer.rstrip("/") + "/.well-known/openid-configuration")
                if found.get("issuer") != self._file.issuer:
                    raise TrustError("the issuer calls itself by another name", hint="write `issuer` as it does")
                keys = _get(http, str(found.get("jwks_uri"))).get("keys")
        except (httpx.HTTPError, msgspec.DecodeError, httpx.InvalidURL) as error:
            hint = "is it up, and is its certificate by a CA that this machine or `ca` of the issuer's file knows?"
            raise LinkError(
                f"the issuer's documents cannot be fetched: {error or type(error).__name__}", hint=hint
            ) from error
        view = {"client_id": self._file.client_id, "scope": self._file.scope, "ca_pem": self._ca_pem}
        endpoints = {name: found.get(name) for name in ("issuer", "device_authorization_endpoint", "token_endpoint")}
        try:
            return Documents(
                view=msgspec.convert(endpoints | view, IssuerView),
                keys=msgspec.convert(keys, tuple[dict[str, Any], ...]),
                fetched=self._monotonic(),
            )
        except msgspec.ValidationError as error:
            hint = "does it let this client use the device flow?"
            raise LinkError(f"the issuer's documents do not say what they should: {error}", hint=hint) from error


def _get(http: httpx.Client, url: str) -> dict[str, Any]:
    if not url.startswith("https://"):
        raise LinkError("the issuer's documents do not lie at an https address", hint="correct them at the issuer")
    with http.stream("GET", url) as answer:
        answer.raise_for_status()
        data = bytearray()
        for piece in answer.iter_bytes():
            data += piece
            if len(data) > MAX_DOCUMENT_BYTES:
                raise LinkError(
                    "the issuer's documents are too large", hint=f"at most {MAX_DOCUMENT_BYTES} bytes are read"
                )
    return msgspec.json.decode(bytes(data), type=dict[str, Any])


def _settle(connection: Connection, person: Person, subject: str, now: float) -> None:
    """Make or change the account of a subject; a name that is another's, or the owner's, is not taken over."""
    if person.name == OWNER:
        raise _taken(person)
    row = rows.person(connection, person.name)
    if row is None and not rows.rename(connection, subject, person.name):
        rows.add(connection, person, now, subject=subject)
    elif row is not None and row.subject != subject:
        raise _taken(person)
    rows.assign(connection, person)


def _taken(person: Person) -> TrustError:
    hint = "an admin removes that account, or takes another claim as `name` in the issuer's file"
    return TrustError(f"the name {person.name} is another account's", hint=hint)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(
            f"{path} cannot be read: {error.strerror}", hint="give the path of the issuer's file"
        ) from error
