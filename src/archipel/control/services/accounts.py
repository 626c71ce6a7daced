"""Operators: people and tools that hold a bearer token. Only its hash is kept.

At the first start one token is made and written, with the address and the CA, to `operator.json` (0600) in the state
folder: whoever can read that file runs the control plane anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from archipel.control.store import operators
from archipel.control.store.database import Database
from archipel.security import write_secret
from archipel.spec import SpecError, TrustError, decode, encode
from archipel.spec.views import Operator

SECRET_BYTES = 32
FILE = "operator.json"


class Accounts:
    """Knows operators by their tokens."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, str] = {}

    def add(self, name: str, secret: bytes) -> str:
        """Make a token for an operator out of `secret` (SECRET_BYTES random bytes)."""
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes")
        token = secret.hex()
        now = self._clock()
        self._database.write(lambda connection: operators.add(connection, _hash(token), name, now))
        return token

    def who(self, token: str) -> str:
        """Return the operator's name; a TrustError if nobody has this token."""
        hashed = _hash(token)
        name = self._known.get(hashed) or self._database.read(lambda connection: operators.name_of(connection, hashed))
        if name is None:
            hint = f"use the token in {FILE} in control's state folder"
            raise TrustError("the bearer token is not known", hint=hint)
        self._known[hashed] = name
        return name

    def write_operator(
        self, folder: Path, url: str, local: str, ca_pem: str, secret: Callable[[int], bytes]
    ) -> Operator:
        """Write `operator.json` for these addresses, keeping the token it holds already."""
        path = folder / FILE
        token = self._kept(path) or self.add("admin", secret(SECRET_BYTES))
        operator = Operator(url=url, local=local, ca_pem=ca_pem, token=token)
        write_secret(path, encode(operator))
        return operator

    def _kept(self, path: Path) -> str | None:
        try:
            token = decode(path.read_bytes(), Operator).token
            self.who(token)
        except (FileNotFoundError, SpecError, TrustError):
            return None
        return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
