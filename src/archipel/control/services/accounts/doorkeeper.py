"""The doorkeeper: in what order a request is looked at before anything is done for it.

    1. who asks: a token's person, or an address
    2. not too often: REQUESTS_AT_ONCE, then REQUESTS_A_SECOND, a person or, without one, an address
    3. the right that the address asks for (security.access), refused where none is named

What is refused is noted (see `refusals`), and answered with the next step.
"""

from __future__ import annotations

from collections.abc import Callable

from archipel.control.services.accounts.limiter import Limiter, network_of
from archipel.control.services.accounts.logins import Logins
from archipel.control.services.accounts.refusals import Refusals
from archipel.security.access import Right, require
from archipel.spec import TooManyError, TrustError, Value
from archipel.spec.people import Person

REQUESTS_A_SECOND = 50
REQUESTS_AT_ONCE = 500


class Visit(Value, frozen=True, kw_only=True):
    """A request, as the doorkeeper sees it."""

    address: str
    """Of the machine that the connection comes from."""
    method: str
    path: str
    """The template, such as "/v1/runs/{run}"."""
    token: str | None
    site: str | None = None
    """The site it is about, where it is about one."""


class UnauthorizedError(TrustError):
    """No (valid) bearer token."""


class Doorkeeper:
    """Decides who comes in; safe for several threads."""

    def __init__(self, logins: Logins, refusals: Refusals, monotonic: Callable[[], float]) -> None:
        self._logins = logins
        self._refusals = refusals
        self._requests = Limiter(every_seconds=1 / REQUESTS_A_SECOND, at_once=REQUESTS_AT_ONCE, clock=monotonic)

    def open_to_all(self, visit: Visit) -> None:
        """Let anybody pass who does not ask too often."""
        actor = self.stranger(visit)
        try:
            self._count(actor)
        except TooManyError as error:
            self.note(visit, actor, error)
            raise

    def let_in(self, visit: Visit, right: Right | None) -> Person:
        """Return who asks, if they may.

        Raises:
            UnauthorizedError: no token, or none that holds.
            TrustError: this person has no such right.
            TooManyError: too many requests.
        """
        actor = self.stranger(visit)
        try:
            person = self._identify(visit, actor)
            actor = f"person/{person.name}"
            self._count(actor)
            require(person, right, visit.site)
        except (TrustError, TooManyError) as error:
            self.note(visit, actor, error)
            raise
        return person

    @staticmethod
    def stranger(visit: Visit) -> str:
        """Return who asks where no person is known, as an actor for the event log."""
        return f"address/{network_of(visit.address)}"

    def note(self, visit: Visit, actor: str, error: TrustError | TooManyError) -> None:
        """Note that a request was refused."""
        detail = {"method": visit.method, "path": visit.path, "address": visit.address}
        self._refusals.note("request.refused", actor=actor, reason=error.message, **detail)

    def _identify(self, visit: Visit, stranger: str) -> Person:
        hint = "log in with `archipel login`, or send the token of operator.json as `Authorization: Bearer …`"
        try:
            if visit.token is None:
                raise UnauthorizedError("no bearer token", hint=hint)
            return self._logins.who(visit.token)
        except TrustError as error:
            self._count(stranger)
            raise UnauthorizedError(error.message, hint=error.hint) from error

    def _count(self, actor: str) -> None:
        wait = self._requests.take(actor)
        if wait:
            whose = "from this person" if actor.startswith("person/") else "from this address"
            hint = f"wait a moment: at most {REQUESTS_A_SECOND} a second are taken"
            raise TooManyError(f"too many requests {whose}", hint=hint, wait_seconds=wait)
