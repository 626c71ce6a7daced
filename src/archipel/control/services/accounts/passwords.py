"""Passwords: argon2id (RFC 9106) at 64 MiB and three passes, and few at once.

A hash costs a quarter of a second of a processor and 64 MiB, so only AT_ONCE are computed at a time; who comes
meanwhile is told to ask again. For a name that is not there a hash is computed too: time does not tell who has an
account.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from archipel.spec import SpecError, TooManyError
from archipel.spec.people import SHORTEST_PASSWORD

AT_ONCE = 2
"""Hashes computed at the same time; 64 MiB each."""
NOBODYS = "$argon2id$v=19$m=65536,t=3,p=4$oBLgXXmaRpbZjNLmTCkp1w$lsLvT1pQWw3JNFLucYWVwT3S5mBvlZq338CFehBxItU"
"""The hash of nobody's password, to spend the same time on."""


def require_long(password: str) -> None:
    """Refuse a new password that is too short, with a SpecError."""
    if len(password) < SHORTEST_PASSWORD:
        hint = "a few words one after another are long, and easily remembered"
        raise SpecError(f"a password has at least {SHORTEST_PASSWORD} characters", hint=hint)


class Passwords:
    """Hashes and compares; safe for several threads."""

    def __init__(self) -> None:
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def hash(self, password: str) -> str:
        """Return what may be kept of a password.

        Raises:
            TooManyError: too many are being computed now.
        """
        from argon2 import PasswordHasher  # noqa: PLC0415 - a fleet without accounts does without

        with self._entered():
            return PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4).hash(password)

    def fits(self, password: str, kept: str | None) -> bool:
        """Say whether `kept` was made of this password; None: of no password.

        Raises:
            TooManyError: too many are being computed now.
        """
        from argon2 import PasswordHasher  # noqa: PLC0415
        from argon2.exceptions import VerificationError  # noqa: PLC0415

        with self._entered():
            try:
                PasswordHasher().verify(kept or NOBODYS, password)
            except VerificationError:
                return False
            return kept is not None

    @contextmanager
    def _entered(self) -> Iterator[None]:
        if not self._room.acquire(blocking=False):
            raise TooManyError("others are logging in at this moment", hint="try again in a second")
        try:
            yield
        finally:
            self._room.release()
