"""A site's side of one session: bytes in, bytes out, and a named abort where the other side breaks the rules.

    session = SiteSession.join(terms, member=..., history=..., entropy=os.urandom(32))
    1  session.advertise()          → Advert
    2  session.share(roster)        → Sealed       checks every neighbour's identity and the terms it agreed to
    3  session.receive(delivery)                   opens the shares the site is to hold
    4  session.mask(values, ...)    → Masked, and the masked vector; the site's own secrets are dropped here
    5  session.consent(survivors)   → Consent      one survivor set, once
    6  session.release(consents)    → Released     one share of each peer, only if enough holders saw the same set

The rules it keeps:
  1. The driver stores `state()`, and in the same transaction what `remembered` makes of its history, before it sends
     what a step returned. A restored session repeats its answers byte for byte and gives no other ones.
  2. Bytes that cannot be read, or come out of order, are refused and change nothing. A breach of the protocol ends the
     session: its secrets are dropped and every later call raises the same error.
  3. Of each peer, either the share of its self seed or that of its mask key is released, never both: one survivor set
     is signed, and what leaves is made from that one, in one message.
  4. One entropy, one session. A session or round the site has been through is refused (`History`).

The masked vector is no part of the state: it is a blob of the driver's, named in Masked by its digest. Python cannot
overwrite memory for certain; dropping a secret means that no reference and no stored state holds it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import msgspec
from msgspec import field

from archipel.security.keys import fingerprint
from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.encoding import Levels, Values
from archipel.security.secagg.graph import Graph
from archipel.security.secagg.masks import apply_masks
from archipel.security.secagg.messages import (
    Advert,
    Consent,
    Consents,
    Delivery,
    Masked,
    Released,
    Roster,
    Sealed,
    Survivors,
    read,
)
from archipel.security.secagg.parameters import Policy
from archipel.security.secagg.roster import (
    context_of,
    graph_of,
    require_certified,
    require_quorum,
    require_roster,
    survivors_hash,
)
from archipel.security.secagg.shamir import share_bytes
from archipel.security.secagg.site_secrets import Pair, Secrets
from archipel.security.secagg.terms import Terms
from archipel.security.secagg.trust import Identity, Trust, require_signed, signed
from archipel.spec import Name, SecureAggregationError, Value, decode, digest_of, encode

Step = Literal["share", "receive", "mask", "consent", "release", "done"]
"""What is awaited."""
_STEPS: tuple[Step, ...] = get_args(Step)
_REFUSED = {Reason.MALFORMED, Reason.OUT_OF_ORDER}
T = TypeVar("T")


class Membership(NamedTuple):
    """Who the site is, whom it believes, and what it asks for."""

    site: str
    identity: Identity
    trust: Trust
    policy: Policy
    now: dt.datetime
    """Time at which peers' certificates must be valid."""


class History(Value, frozen=True, kw_only=True):
    """What the site remembers of sessions before this one; the driver keeps it."""

    sessions: frozenset[str] = frozenset()
    """Names (hex) of sessions it joined."""
    released: frozenset[tuple[str, int]] = frozenset()
    """Run and round of those it released shares in."""


class _State(Value, frozen=True, kw_only=True, tag_field="type", tag="secagg-site/1"):
    """All a session needs to go on after a restart; it holds secrets and is stored like a key (mode 0600)."""

    terms: Terms
    step: Step = "share"
    entropy: bytes
    """Empty once the vector is masked."""
    advert: Advert | None = None
    """The site's own, once it is in the roster."""
    sites: tuple[Name, ...] = ()
    """Those of the roster."""
    context: bytes = b""
    peers: dict[Name, Advert] = field(default_factory=dict)
    """Adverts of the neighbours."""
    held: dict[Name, Pair] = field(default_factory=dict)
    """Shares of other sites' seed and key; empty once one of each is released."""
    sharers: tuple[Name, ...] = ()
    survivors: tuple[Name, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    """Digest of what each step was given."""
    replies: dict[str, bytes] = field(default_factory=dict)
    """What each step answered."""
    ended: str = ""
    """Why the session was aborted."""


class _Answer(NamedTuple):
    """What a step says, and what it changes of the state."""

    reply: bytes
    changes: dict[str, Any]


class SiteSession:
    """One site in one session; see the module for the order of calls and the rules."""

    def __init__(self, state: _State, member: Membership) -> None:
        self._state = state
        self._member = member
        self._sid = state.terms.session
        self._own: Secrets | None = None
        self._web: Graph | None = None

    # ---- begin, store, go on ----------------------------------------------------------------------------------

    @classmethod
    def join(cls, terms: bytes, *, member: Membership, history: History, entropy: bytes) -> SiteSession:
        """Agree to the terms, or abort; `entropy` is 32 fresh random bytes.

        That run, round, model and layout are those of the site's task is for the caller to compare (`terms`).

        Raises:
            SecureAggregationError: malformed, not-a-member, small-cohort, weak-terms, replayed-session or
                round-released.
        """
        if len(entropy) != 32:
            raise ValueError("entropy has 32 bytes")
        agreed = read(terms, Terms)
        if agreed.fingerprint_of(member.site) != fingerprint(member.identity.certificate):
            raise abort(Reason.NOT_A_MEMBER, f"{member.site} is not invited under its certificate")
        agreed.require_strict(member.policy)
        if agreed.session.hex() in history.sessions:
            raise abort(Reason.REPLAYED_SESSION, "this site has taken part in this session before")
        _require_unreleased(agreed, history)
        return cls(_State(terms=agreed, entropy=entropy), member)

    @classmethod
    def restore(cls, state: bytes, member: Membership) -> SiteSession:
        """Go on from what `state` returned.

        Raises:
            SpecError: the bytes are no such state.
        """
        return cls(decode(state, _State), member)

    def state(self) -> bytes:
        """Return all the session needs after a restart; it holds secrets."""
        return encode(self._state)

    @property
    def terms(self) -> Terms:
        """What the site agreed to."""
        return self._state.terms

    @property
    def awaits(self) -> Step:
        """The step that comes next."""
        return self._state.step

    @property
    def ended(self) -> str:
        """Why the session was aborted; empty: it was not."""
        return self._state.ended

    def remembered(self, history: History) -> History:
        """Return `history` with this session in it, and with its round once shares are released."""
        released = {(self.terms.run, self.terms.round)} if "release" in self._state.inputs else set()
        return History(sessions=history.sessions | {self._sid.hex()}, released=history.released | released)

    def reply(self, step: Step) -> bytes | None:
        """Return what a step answered, to send it again."""
        return self._state.replies.get(step)

    # ---- the steps --------------------------------------------------------------------------------------------

    def advertise(self) -> bytes:
        """Return the site's Advert; the same one each time."""
        self._require_going_on()
        return encode(self._advert())

    def share(self, roster: bytes) -> bytes:
        """Check the roster; return the site's shares, sealed for their holders.

        Raises:
            SecureAggregationError: entry-changed, not-a-member, substituted-key, too-few-sites, malformed or
                out-of-order.
        """
        return self._once("share", roster, lambda: self._share(read(roster, Roster)))

    def receive(self, delivery: bytes) -> None:
        """Open the shares this site is to hold.

        Raises:
            SecureAggregationError: untrue-share, too-few-sites, entry-changed, malformed or out-of-order.
        """
        self._once("receive", delivery, lambda: self._receive(read(delivery, Delivery)))

    def mask(self, values: Mapping[str, Values], *, weight: float) -> tuple[bytes, Levels]:
        """Encode and mask the site's values; return the Masked message and the vector (uint32, little-endian).

        The values never leave; the site's own secrets are dropped. It works once: afterwards `reply("mask")` has the
        message, and the driver the vector.

        Raises:
            SpecError, ShapeError, NonFiniteError: the values do not fit the layout; the session can go on with others.
            SecureAggregationError: out-of-order.
        """
        self._require_step("mask")
        vector = self._masked(values, weight)
        message = Masked(site=self._member.site, vector=digest_of(vector.data.cast("B")), count=vector.size)
        reply = self._signed(message)
        self._advance("mask", b"", _Answer(reply, {"entropy": b""}))
        return reply, vector

    def consent(self, survivors: bytes) -> bytes:
        """Check the survivor set; return the site's signature under it. Another set later ends the session.

        Raises:
            SecureAggregationError: second-survivor-set, too-few-sites, entry-changed, split-view, malformed or
                out-of-order.
        """
        message, before = read(survivors, Survivors), self._state.survivors
        if before and message.sites != before:
            raise self._end(abort(Reason.SECOND_SURVIVOR_SET, "another survivor set was signed before"))
        return self._once("consent", survivors, lambda: self._consent(message))

    def release(self, consents: bytes, *, history: History) -> bytes:
        """Check that enough holders signed the same set; return one share of each peer, and drop the others.

        Raises:
            SecureAggregationError: split-view, forged, round-released, malformed or out-of-order.
        """
        message = read(consents, Consents)
        if self._state.step == "done":  # control may have collected other signatures under the same set since
            self._guard(lambda: self._require_consents(message))
            return self._state.replies["release"]
        return self._once("release", consents, lambda: self._release(message, history))

    # ---- what the steps do ------------------------------------------------------------------------------------

    def _advert(self) -> Advert:
        state, member = self._state, self._member
        if state.advert is not None:
            return state.advert
        secrets = self._secrets()
        advert = Advert(
            site=member.site,
            certificate=member.identity.certificate,
            channel_key=secrets.channel_key,
            mask_key=secrets.mask_key,
            commitment=secrets.commitment,
        )
        return signed(advert, self._sid, member.identity.key)

    def _share(self, roster: Roster) -> _Answer:
        state, site = self._state, self._member.site
        mine = self._advert()
        if mine not in roster.adverts:
            raise abort(Reason.ENTRY_CHANGED, f"the roster does not show the keys that {site} advertised")
        require_roster(state.terms, roster.adverts)
        sites = tuple(advert.site for advert in roster.adverts)
        context = context_of(self._sid, roster.adverts)
        graph = self._web = graph_of(state.terms, sites, context)
        near = set(graph.neighbours(site))
        peers = {advert.site: advert for advert in roster.adverts if advert.site in near}
        for peer, advert in peers.items():
            invited = state.terms.fingerprint_of(peer)
            require_certified(advert, self._sid, invited, self._member.trust, self._member.now)
        holders = graph.holders(site)
        if len(holders) < state.terms.shape.threshold:
            raise abort(Reason.TOO_FEW_SITES, f"{len(holders)} neighbours for a threshold above that")
        secrets = self._secrets()
        shares = dict(zip(holders, secrets.split(len(holders), state.terms.shape.threshold), strict=True))
        own = {site: shares.pop(site)} if site in shares else {}
        sealed = {peer: secrets.seal(pair, context, peer, peers[peer].channel_key) for peer, pair in shares.items()}
        reply = self._signed(Sealed(site=site, shares=sealed), context)
        return _Answer(reply, {"advert": mine, "sites": sites, "context": context, "peers": peers, "held": own})

    def _receive(self, delivery: Delivery) -> _Answer:
        state, site = self._state, self._member.site
        sharers = self._require_subset(delivery.sharers, state.sites, "shared keys")
        wanted = {peer for peer in self._graph().holders(site) if peer in sharers and peer != site}
        if set(delivery.shares) != wanted:
            raise abort(Reason.UNTRUE_SHARE, "the shares delivered are not those of the neighbours that shared")
        secrets, held = self._secrets(), dict(state.held)
        if len(wanted) + len(held) < state.terms.shape.threshold:
            raise abort(Reason.TOO_FEW_SITES, f"{len(wanted) + len(held)} holders of shares are left")
        for peer in sorted(wanted):
            pair = secrets.open(delivery.shares[peer], state.context, peer, state.peers[peer].channel_key)
            if {len(share) for share in pair} != {share_bytes(32)}:
                raise abort(Reason.UNTRUE_SHARE, f"the share of {peer} has another length")
            held[peer] = pair
        return _Answer(b"", {"sharers": sharers, "held": held})

    def _masked(self, values: Mapping[str, Values], weight: float) -> Levels:
        state, site, secrets = self._state, self._member.site, self._secrets()
        vector = state.terms.layout.encode(values, weight=weight, rounding=secrets.rounding)
        keys = {
            peer: secrets.pair_mask(state.context, peer, state.peers[peer].mask_key)
            for peer in self._graph().neighbours(site)
            if peer in state.sharers
        }
        added = [key for peer, key in keys.items() if site < peer]
        removed = [key for peer, key in keys.items() if site > peer]
        apply_masks(vector, added=[secrets.self_mask(state.context), *added], removed=removed)
        return vector

    def _consent(self, message: Survivors) -> _Answer:
        state, site = self._state, self._member.site
        survivors = self._require_subset(message.sites, state.sharers, "survived")
        near = [peer for peer in self._graph().holders(site) if peer in survivors]
        if len(near) < state.terms.shape.threshold:
            raise abort(Reason.TOO_FEW_SITES, f"{len(near)} of the holders of this site's shares survived")
        reply = self._signed(Consent(site=site, survivors=survivors_hash(state.context, survivors)))
        return _Answer(reply, {"survivors": survivors})

    def _release(self, message: Consents, history: History) -> _Answer:
        state = self._state
        _require_unreleased(state.terms, history)
        self._require_consents(message)
        seeds = {peer: pair.seed for peer, pair in state.held.items() if peer in state.survivors}
        keys = {peer: pair.key for peer, pair in state.held.items() if peer not in state.survivors}
        reply = self._signed(Released(site=self._member.site, seeds=seeds, keys=keys))
        return _Answer(reply, {"held": {}})

    # ---- checks -----------------------------------------------------------------------------------------------

    def _require_subset(self, sites: tuple[str, ...], of: tuple[str, ...], what: str) -> tuple[str, ...]:
        if list(sites) != sorted(set(sites)) or not set(sites) <= set(of):
            raise abort(Reason.SPLIT_VIEW, f"the sites said to have {what} are not among those known before")
        if self._member.site not in sites:
            raise abort(Reason.ENTRY_CHANGED, f"{self._member.site} is not among the sites that {what}")
        require_quorum(self._state.terms, sites, what)
        return sites

    def _require_consents(self, message: Consents) -> None:
        """Count the holders of this site's shares that signed the set this site signed."""
        state, member = self._state, self._member
        mine = survivors_hash(state.context, state.survivors)
        holders = {peer for peer in self._graph().holders(member.site) if peer in state.survivors}
        agreed = set()
        for consent in message.consents:
            if consent.site not in holders:
                raise abort(Reason.SPLIT_VIEW, f"{consent.site} holds no share of this site, or did not survive")
            if consent.survivors != mine:
                raise abort(Reason.SPLIT_VIEW, f"{consent.site} signed another survivor set")
            advert = self._advert() if consent.site == member.site else state.peers[consent.site]
            require_signed(consent, state.context, member.trust.peer(consent.site, advert.certificate, member.now).key)
            agreed.add(consent.site)
        if len(agreed) < state.terms.shape.threshold:
            detail = f"{len(agreed)} of {state.terms.shape.threshold} needed holders signed this survivor set"
            raise abort(Reason.SPLIT_VIEW, detail)

    # ---- state ------------------------------------------------------------------------------------------------

    def _secrets(self) -> Secrets:
        if self._own is None:
            self._own = Secrets(self._state.entropy, self._sid, self._member.site)
        return self._own

    def _graph(self) -> Graph:
        if self._web is None:
            self._web = graph_of(self._state.terms, self._state.sites, self._state.context)
        return self._web

    def _signed(self, statement: Sealed | Masked | Consent | Released, context: bytes = b"") -> bytes:
        return encode(signed(statement, context or self._state.context, self._member.identity.key))

    def _once(self, step: Step, data: bytes, take: Callable[[], _Answer]) -> bytes:
        """Take a step, or give the answer that was given to the same bytes before."""
        if self._state.inputs.get(step) == hashlib.sha256(data).hexdigest() and not self._state.ended:
            return self._state.replies[step]
        self._require_step(step)
        answer = self._guard(take)
        self._advance(step, data, answer)
        return answer.reply

    def _require_going_on(self) -> None:
        if self._state.ended:
            raise SecureAggregationError(self._state.ended, hint="the session is over; run the round again")

    def _require_step(self, step: Step) -> None:
        self._require_going_on()
        if self._state.step != step:
            raise abort(Reason.OUT_OF_ORDER, f"{step} was called, {self._state.step} is awaited")

    def _guard(self, take: Callable[[], T]) -> T:
        try:
            return take()
        except SecureAggregationError as error:
            raise self._end(error) from error

    def _end(self, error: SecureAggregationError) -> SecureAggregationError:
        """Drop all secrets, unless the error is one that changes nothing; return the error to raise."""
        if not any(error.message.startswith(f"{reason}:") for reason in _REFUSED):
            self._state = msgspec.structs.replace(self._state, entropy=b"", held={}, replies={}, ended=error.message)
            self._own = None
        return error

    def _advance(self, step: Step, data: bytes, answer: _Answer) -> None:
        state = self._state
        changes = {
            **answer.changes,
            "step": _STEPS[_STEPS.index(step) + 1],
            "inputs": {**state.inputs, step: hashlib.sha256(data).hexdigest()},
            "replies": {**state.replies, step: answer.reply},
        }
        self._state = msgspec.structs.replace(state, **changes)
        if not self._state.entropy:
            self._own = None


def _require_unreleased(terms: Terms, history: History) -> None:
    if (terms.run, terms.round) in history.released:
        detail = f"shares were released for round {terms.round} of {terms.run} before"
        raise abort(Reason.ROUND_RELEASED, detail, hint="go on with the next round")
