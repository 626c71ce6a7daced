"""The owner: whoever can read `operator.json` (0600) in the state folder, and so runs the control plane anyway.

The file is written at the first start, with the address, the CA and a token of an admin, and kept at later ones. Who
deletes it gets another at the next start, and the token it held ends.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from archipel.control.services.accounts.logins import SECRET_BYTES, Logins, hash_of
from archipel.control.services.accounts.people import OWNER
from archipel.control.store import people as rows
from archipel.control.store.database import Database
from archipel.security import write_secret
from archipel.spec import SpecError, TrustError, decode, encode
from archipel.spec.people import Person
from archipel.spec.views import Operator

FILE = "operator.json"


class Owner:
    """Writes the owner's file."""

    def __init__(self, database: Database, logins: Logins, clock: Callable[[], float]) -> None:
        self._database = database
        self._logins = logins
        self._clock = clock

    def write(self, folder: Path, url: str, local: str, ca_pem: str, random: Callable[[int], bytes]) -> Operator:
        """Write `operator.json` for these addresses, keeping the token it holds already."""
        path = folder / FILE
        token = self._kept(path) or self._renew(random(SECRET_BYTES).hex())
        operator = Operator(url=url, local=local, ca_pem=ca_pem, token=token)
        write_secret(path, encode(operator))
        return operator

    def _renew(self, token: str) -> str:
        now = self._clock()

        def change(connection: Connection) -> None:
            rows.end_all(connection, OWNER)
            if rows.person(connection, OWNER) is None:
                rows.add(connection, Person(name=OWNER, role="admin"), now)
            rows.hold(connection, hash_of(token), OWNER, now, None)

        self._database.write(change)
        return token

    def _kept(self, path: Path) -> str | None:
        try:
            token = decode(path.read_bytes(), Operator).token
            self._logins.who(token)
        except (FileNotFoundError, SpecError, TrustError):
            return None
        return token
