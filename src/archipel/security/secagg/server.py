"""Control's side of one session: statements of sites in, messages for sites out, and in the end which masks to remove.

    session = ServerSession(terms, trust, now)
    for each stage:  session.take(statement)      one site's, checked; a duplicate is passed over
                     session.close()              → what to send to each site; enough have answered
    session.opening                               after the last stage: whose vectors to add, which masks to take off

The stages and their messages are listed in messages.py. When to close a stage (everybody answered, or the lease of
those missing ended) is the driver's decision.

The rules it keeps:
  1. The state is a function of the calls in their order, and holds no secret of control's own. It is not stored:
     a driver that records each statement and each close before it acts on them replays them after a crash, and sends
     `outstanding()` again. So the survivor set is on disk before anybody is asked to unmask, and never changes.
  2. A statement that does not hold is refused by name and changes nothing. A `close` that comes too early raises and
     changes nothing: the driver may wait for more, or give the round up.
  3. A vector that arrives after the survivors were named is refused: it is not in the sum.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from archipel.security.keys import PublicKey
from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.encoding import Levels
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
    Statement,
    Survivors,
    read,
)
from archipel.security.secagg.recovery import recover
from archipel.security.secagg.roster import context_of, graph_of, require_certified, require_quorum, survivors_hash
from archipel.security.secagg.shamir import share_bytes
from archipel.security.secagg.site_secrets import commitment_of, pair_mask, self_mask
from archipel.security.secagg.terms import Terms
from archipel.security.secagg.trust import Trust, require_signed
from archipel.spec import Digest, encode

Stage = Literal["advertise", "share", "mask", "consent", "release", "finished"]
_STAGES: tuple[Stage, ...] = get_args(Stage)
_KINDS: dict[Stage, type[Statement]] = {
    "advertise": Advert,
    "share": Sealed,
    "mask": Masked,
    "consent": Consent,
    "release": Released,
}
_SEALED_BYTES = 2 * share_bytes(32) + 16
Outbox = dict[str, bytes]


class Opening(NamedTuple):
    """What turns the sum of the survivors' vectors into the sum of what they encoded."""

    vectors: dict[str, Digest]
    """The survivors' vectors, by site."""
    added: tuple[bytes, ...]
    """Keys of masks to add."""
    removed: tuple[bytes, ...]
    """Keys of masks to take away."""

    def unmask(self, total: Levels) -> None:
        """Take the masks off the sum modulo 2^32 of all `vectors`, in place; decode it with the terms' layout."""
        apply_masks(total, added=self.added, removed=self.removed)


class ServerSession:
    """Control in one session; see the module for the order of calls and the rules."""

    def __init__(self, terms: Terms, trust: Trust, now: dt.datetime) -> None:
        """Begin; `now` is the time at which the sites' certificates must be valid."""
        self.terms = terms
        self._sid = terms.session
        self._trust = trust
        self._now = now
        self._stage: Stage = "advertise"
        self._outbox: Outbox = {}
        self._said: dict[Stage, dict[str, Any]] = {stage: {} for stage in _STAGES}
        self._keys: dict[str, PublicKey] = {}
        self._used: set[bytes] = set()
        self._context = b""
        self._graph = Graph((), 0, complete=True)
        self._opening: Opening | None = None
        self._untrue: dict[str, str] = {}

    # ---- what a driver calls ----------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """Whose statements are awaited."""
        return self._stage

    @property
    def waiting(self) -> tuple[str, ...]:
        """Sites that are asked and have not answered, by name."""
        asked = [member.site for member in self.terms.members] if self._stage == "advertise" else self._outbox
        return tuple(sorted(set(asked) - self._said[self._stage].keys()))

    @property
    def untrue(self) -> dict[str, str]:
        """Sites that released a share that is not true, and of whom."""
        return dict(self._untrue)

    @property
    def opening(self) -> Opening:
        """What to do with the vectors; there once all stages are closed."""
        if self._opening is None:
            raise abort(Reason.OUT_OF_ORDER, f"the sum is not open yet: {self._stage} is under way")
        return self._opening

    def outstanding(self) -> Outbox:
        """Return what the sites that have not answered were sent: to send again after a restart."""
        waiting = set(self.waiting)
        return {site: message for site, message in self._outbox.items() if site in waiting}

    def take(self, site: str, statement: bytes) -> None:
        """Take in what `site`, as the link authenticated it, says in the present stage.

        Raises:
            SecureAggregationError: it is malformed, out-of-order, forged, not-a-member, substituted-key or
                untrue-share; nothing is changed.
        """
        message = read(statement, self._awaited())
        if message.site != site:
            raise abort(Reason.FORGED, f"a statement of {message.site}, sent by {site}")
        before = self._said[self._stage].get(site)
        if before == message:
            return
        if before is not None:
            raise abort(Reason.OUT_OF_ORDER, f"{site} has said otherwise in this stage")
        if isinstance(message, Advert):
            self._check_advert(message)
        else:
            self._check_answer(message)
        self._said[self._stage][site] = message

    def close(self) -> Outbox:
        """Close the stage; return what to send to each site (nothing after the last).

        Raises:
            SecureAggregationError: too-few-sites or unrecoverable; the stage stays open.
        """
        if self._stage == "finished":
            return {}
        answered = sorted(self._said[self._stage])
        if self._stage != "release":
            require_quorum(self.terms, answered, f"answered in stage {self._stage}")
        self._outbox = self._closing(tuple(answered))
        self._stage = _STAGES[_STAGES.index(self._stage) + 1]
        return dict(self._outbox)

    # ---- what sites say ---------------------------------------------------------------------------------------

    def _awaited(self) -> type[Statement]:
        if self._stage == "finished":
            raise abort(Reason.OUT_OF_ORDER, "the session is finished")
        return _KINDS[self._stage]

    def _check_advert(self, advert: Advert) -> None:
        invited = self.terms.fingerprint_of(advert.site)
        if invited is None:
            raise abort(Reason.NOT_A_MEMBER, f"{advert.site} is not invited")
        key = require_certified(advert, self._sid, invited, self._trust, self._now)
        theirs = {advert.channel_key, advert.mask_key}
        if len(theirs) < 2 or theirs & self._used:
            raise abort(Reason.SUBSTITUTED_KEY, f"{advert.site} advertised a key that is in use")
        self._used |= theirs
        self._keys[advert.site] = key

    def _check_answer(self, message: Statement) -> None:
        site = message.site
        if site not in self._outbox:
            raise abort(Reason.NOT_A_MEMBER, f"{site} is not asked in stage {self._stage}")
        require_signed(message, self._context, self._keys[site])
        match message:
            case Sealed():
                self._require_shares(site, message.shares, set(self._graph.holders(site)) - {site}, _SEALED_BYTES)
            case Masked():
                if message.count != self.terms.layout.count:
                    raise abort(Reason.MALFORMED, f"the vector of {site} has {message.count} words")
            case Consent():
                if message.survivors != survivors_hash(self._context, self._sites("mask")):
                    raise abort(Reason.SPLIT_VIEW, f"{site} signed another survivor set")
            case Released():
                held, survivors = self._holders(site, "share"), set(self._sites("mask"))
                self._require_shares(site, message.seeds, held & survivors, share_bytes(32))
                self._require_shares(site, message.keys, held - survivors, share_bytes(32))

    def _require_shares(self, site: str, shares: dict[str, bytes], wanted: set[str], size: int) -> None:
        if shares.keys() != wanted or {len(share) for share in shares.values()} - {size}:
            raise abort(Reason.UNTRUE_SHARE, f"{site} sent other shares than it was asked for")

    # ---- what follows when a stage is closed ------------------------------------------------------------------

    def _sites(self, stage: Stage) -> tuple[str, ...]:
        """Return who answered in a closed stage, by name."""
        return tuple(sorted(self._said[stage]))

    def _holders(self, site: str, stage: Stage) -> set[str]:
        """Return the holders of a site's shares who answered in a stage; what they hold is of the same sites."""
        return {holder for holder in self._graph.holders(site) if holder in self._said[stage]}

    def _closing(self, answered: tuple[str, ...]) -> Outbox:
        match self._stage:
            case "advertise":
                return self._send_roster(answered)
            case "share":
                self._require_holders(answered, "share")
                return {site: self._delivery(site, answered) for site in answered}
            case "mask":
                self._require_holders(self._sites("share"), "mask")
                survivors = encode(Survivors(sites=answered))
                return dict.fromkeys(answered, survivors)
            case "consent":
                self._require_holders(self._sites("share"), "consent")
                return {site: self._signatures(site) for site in answered if self._heard_enough(site)}
            case _:
                self._opening = self._opened()
                return {}

    def _send_roster(self, answered: tuple[str, ...]) -> Outbox:
        adverts = tuple(self._said["advertise"][site] for site in answered)
        self._context = context_of(self._sid, adverts)
        self._graph = graph_of(self.terms, answered, self._context)
        return dict.fromkeys(answered, encode(Roster(adverts=adverts)))

    def _require_holders(self, owners: tuple[str, ...], stage: Stage) -> None:
        """See that the secrets of all `owners` can still be put together, before anybody goes further."""
        for owner in owners:
            left = len(self._holders(owner, stage))
            if left < self.terms.shape.threshold:
                detail = f"{left} holders of shares of {owner} answered, {self.terms.shape.threshold} are needed"
                raise abort(Reason.UNRECOVERABLE, detail)

    def _delivery(self, site: str, sharers: tuple[str, ...]) -> bytes:
        near = sorted(self._holders(site, "share") - {site})
        shares = {peer: self._said["share"][peer].shares[site] for peer in near}
        return encode(Delivery(sharers=sharers, shares=shares))

    def _heard_enough(self, site: str) -> bool:
        return len(self._holders(site, "consent")) >= self.terms.shape.threshold

    def _signatures(self, site: str) -> bytes:
        near = sorted(self._holders(site, "consent"))[: self.terms.shape.threshold]
        return encode(Consents(consents=tuple(self._said["consent"][peer] for peer in near)))

    # ---- the end ----------------------------------------------------------------------------------------------

    def _opened(self) -> Opening:
        survivors = self._sites("mask")
        removed = [self_mask(self._seed(site), self._context, site) for site in survivors]
        added: list[bytes] = []
        for gone in sorted(set(self._sites("share")) - set(survivors)):
            key = X25519PrivateKey.from_private_bytes(self._key(gone))
            for peer in self._graph.neighbours(gone):
                if peer in survivors:
                    public = self._said["advertise"][peer].mask_key
                    mask = pair_mask(key, self._context, gone, peer, public)
                    # A survivor adds the mask towards peers of later names and takes it away towards earlier ones.
                    (removed if peer < gone else added).append(mask)
        vectors = {site: self._said["mask"][site].vector for site in survivors}
        return Opening(vectors=vectors, added=tuple(added), removed=tuple(removed))

    def _seed(self, owner: str) -> bytes:
        shares = {holder: one.seeds[owner] for holder, one in self._said["release"].items() if owner in one.seeds}
        commitment = self._said["advertise"][owner].commitment
        return self._recover(owner, shares, lambda seed: commitment_of(seed, self._sid, owner) == commitment)

    def _key(self, owner: str) -> bytes:
        shares = {holder: one.keys[owner] for holder, one in self._said["release"].items() if owner in one.keys}
        public: bytes = self._said["advertise"][owner].mask_key

        def accept(key: bytes) -> bool:
            return public == X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()

        return self._recover(owner, shares, accept)

    def _recover(self, owner: str, shares: dict[str, bytes], accept: Callable[[bytes], bool]) -> bytes:
        points = {place + 1: holder for place, holder in enumerate(self._graph.holders(owner))}
        by_point = {point: shares[holder] for point, holder in points.items() if holder in shares}
        found = recover(by_point, threshold=self.terms.shape.threshold, size=32, accept=accept)
        if found is None:
            raise abort(Reason.UNRECOVERABLE, f"the {len(shares)} shares of {owner} do not make its secret")
        self._untrue.update({points[point]: owner for point in found.untrue})
        return found.secret
