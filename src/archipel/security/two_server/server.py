"""Control's side: statements in, messages out, and in the end whose vectors to add up with the helper's.

    session = ServerSession(terms, trust, now)
    for each stage:  session.take(statement)      one party's, checked; a duplicate is passed over
                     session.close()              → what to send to each party of the next stage
    session.survivors                             after the last stage: whose vectors, with the helper's, are the sum

The stages are listed in messages.py; when to close one is the driver's decision. The rules are those of
`secagg.server`: the state is a function of the calls in their order, what does not hold is refused by name and changes
nothing, and a vector that arrives after the survivors were named is not in the sum.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal, get_args

from archipel.security.authority import expiry_of
from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.messages import Statement, read
from archipel.security.secagg.trust import Trust, require_signed
from archipel.security.two_server.messages import Correction, Gathered, HelperKey, Invitation, Masked
from archipel.security.two_server.seat import context_of, require_party, survivors_hash
from archipel.security.two_server.terms import Terms
from archipel.spec import encode

Stage = Literal["advertise", "mask", "release", "finished"]
_STAGES: tuple[Stage, ...] = get_args(Stage)
_KINDS: dict[Stage, type[HelperKey | Masked | Correction]] = {
    "advertise": HelperKey,
    "mask": Masked,
    "release": Correction,
}
Outbox = dict[str, bytes]


class ServerSession:
    """Control in one session; see the module for the order of calls and the rules."""

    def __init__(self, terms: Terms, trust: Trust, now: dt.datetime) -> None:
        """Begin; `now` is a time at which all sites' certificates must be valid, the helper's from its own first on."""
        self.terms = terms
        self._trust = trust
        self._now = now
        self._stage: Stage = "advertise"
        self._outbox: Outbox = {}
        self._key: HelperKey | None = None
        self._context = b""
        self._masked: dict[str, Masked] = {}
        self._gathered = b""
        self._correction: Correction | None = None

    @property
    def stage(self) -> Stage:
        """Whose statements are awaited."""
        return self._stage

    @property
    def survivors(self) -> tuple[str, ...]:
        """Sites whose vectors are in the sum, by name."""
        return tuple(sorted(self._masked))

    def take(self, site: str, statement: bytes) -> None:
        """Take in what `site`, as the link authenticated it, says in the present stage.

        Raises:
            SecureAggregationError: it is malformed, out-of-order, forged, not-a-member, substituted-key or split-view;
                nothing is changed.
        """
        if self._stage == "finished":
            raise abort(Reason.OUT_OF_ORDER, "the session is finished")
        message = read(statement, _KINDS[self._stage])
        if message.site != site:
            raise abort(Reason.FORGED, f"a statement of {message.site}, sent by {site}")
        before: Statement | None
        match message:
            case HelperKey():
                before = self._key
            case Masked():
                before = self._masked.get(site)
            case Correction():
                before = self._correction
        if before == message:
            return
        if before is not None:
            raise abort(Reason.OUT_OF_ORDER, f"{site} has said otherwise in this stage")
        self._keep(message)

    def close(self) -> Outbox:
        """Close the stage; return what to send to each party of the next (nothing after the last).

        Raises:
            SecureAggregationError: too-few-sites; the stage stays open.
        """
        match self._stage:
            case "advertise":
                if self._key is None:
                    raise abort(Reason.TOO_FEW_SITES, f"the helper {self.terms.helper} has not answered")
                invitation = encode(Invitation(terms=self.terms, key=self._key))
                self._outbox = dict.fromkeys((party.site for party in self.terms.parties), invitation)
            case "mask":
                self._require_enough()
                self._gathered = encode(Gathered(masked=tuple(self._masked[site] for site in self.survivors)))
                self._outbox = {self.terms.helper: self._gathered}
            case "release":
                if self._correction is None:
                    raise abort(Reason.TOO_FEW_SITES, f"the helper {self.terms.helper} has not answered")
                self._outbox = {}
            case "finished":
                return {}
        self._stage = _STAGES[_STAGES.index(self._stage) + 1]
        return dict(self._outbox)

    def _keep(self, message: HelperKey | Masked | Correction) -> None:
        match message:
            case HelperKey():
                self._context = context_of(self.terms, message, self._trust, self._since(message))
                self._key = message
            case Masked():
                require_party(message, self.terms, self._context, self._trust, self._now)
                self._masked[message.site] = message
            case Correction():
                self._check_correction(message)
                self._correction = message

    def _check_correction(self, message: Correction) -> None:
        if message.site != self.terms.helper or self._key is None:
            raise abort(Reason.NOT_A_MEMBER, f"{message.site} is not the helper of this session")
        helper = self._trust.peer(message.site, self._key.certificate, self._since(self._key))
        require_signed(message, self._context, helper.key)
        if message.count != self.terms.layout.count:
            raise abort(Reason.MALFORMED, f"the vector of {message.site} has {message.count} words")
        if message.survivors != survivors_hash(self._context, self._gathered):
            raise abort(Reason.SPLIT_VIEW, f"{message.site} took masks off over another set of sites")

    def _since(self, key: HelperKey) -> dt.datetime:
        try:
            return max(self._now, expiry_of(key.certificate)[0])
        except ValueError as error:
            raise abort(Reason.MALFORMED, f"{key.site} sent no certificate") from error

    def _require_enough(self) -> None:
        if len(self._masked) < self.terms.least:
            detail = f"{len(self._masked)} of {len(self.terms.parties)} sites answered in stage mask"
            raise abort(
                Reason.TOO_FEW_SITES,
                f"{detail}, at least {self.terms.least} are needed",
                hint="wait for the sites that are away, or run the round again",
            )
