"""The helper's side: a key for one session, and once the sites have answered, minus the sum of their masks.

    session = HelperSession.join(terms, seat=..., history=..., entropy=os.urandom(32))
    session.advertise()                      → HelperKey
    session.release(gathered, history=...)   → Correction, and its vector

It sees no vector, only seeds, names and certificates of sites; and control sees no seed, only the one sum of masks.

The rules it keeps:
  1. The driver stores `state()`, the vector, and what `remembered` makes of its history before it sends what a step
     returned. A restored session says the same bytes again and no others.
  2. Masks are taken off once in a session, and once in a round of a run, over one set of sites: the difference of two
     sums would be single sites' vectors. With the answer the key is dropped.
  3. Each seed counts with the signature of the invited site under it, over the very session; and no sum is opened over
     fewer sites than the terms and the helper's own policy ask for.
  4. What is refused changes nothing.
"""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.derivation import Label, derive, hash_of
from archipel.security.secagg.encoding import Levels
from archipel.security.secagg.masks import apply_masks
from archipel.security.secagg.messages import read
from archipel.security.secagg.site import History
from archipel.security.secagg.trust import signed
from archipel.security.two_server.messages import Correction, Gathered, HelperKey
from archipel.security.two_server.seat import Seat, require_party, require_peers, survivors_hash
from archipel.security.two_server.seeds import opened_mask
from archipel.security.two_server.terms import Terms
from archipel.spec import Value, decode, digest_of, encode


class _State(Value, frozen=True, kw_only=True, tag_field="type", tag="two-server-helper/1"):
    """All the helper needs to go on after a restart; it holds a secret and is stored like a key (mode 0600)."""

    terms: Terms
    entropy: bytes
    """Empty once masks are taken off."""
    key: HelperKey
    gathered: str = ""
    """SHA-256 (hex) of what it took masks off for."""
    reply: bytes = b""
    """What it answered."""


class HelperSession:
    """The helper in one session; see the module for the rules."""

    def __init__(self, state: _State, seat: Seat) -> None:
        """Use `join` or `restore`."""
        self._state = state
        self._seat = seat

    @classmethod
    def join(cls, terms: bytes, *, seat: Seat, history: History, entropy: bytes) -> HelperSession:
        """Agree to terms; `entropy` is 32 random bytes that nothing else is made of.

        Raises:
            SecureAggregationError: malformed, weak-terms, small-cohort, not-a-member, substituted-key,
                replayed-session or round-released.
        """
        if len(entropy) != 32:
            raise ValueError("entropy has 32 bytes")
        agreed = read(terms, Terms)
        if agreed.helper != seat.site:
            raise abort(Reason.NOT_A_MEMBER, f"{seat.site} is not the helper of this session")
        agreed.require_fair(seat.least_sites)
        require_peers(agreed, seat.peers)
        if agreed.session.hex() in history.sessions:
            raise abort(Reason.REPLAYED_SESSION, "the helper has made a key for this session before")
        _require_unreleased(agreed, history)
        advert = HelperKey(
            site=seat.site,
            certificate=seat.identity.certificate,
            channel_key=_channel(entropy, agreed).public_key().public_bytes_raw(),
        )
        key = signed(advert, agreed.session, seat.identity.key)
        return cls(_State(terms=agreed, entropy=entropy, key=key), seat)

    @classmethod
    def restore(cls, state: bytes, seat: Seat) -> HelperSession:
        """Go on from what `state` returned.

        Raises:
            SpecError: the bytes are no such state.
        """
        return cls(decode(state, _State), seat)

    def state(self) -> bytes:
        """Return all the session needs after a restart."""
        return encode(self._state)

    @property
    def terms(self) -> Terms:
        """What the helper agreed to."""
        return self._state.terms

    def remembered(self, history: History) -> History:
        """Return `history` with this session in it, and with its round once masks are taken off."""
        released = {(self.terms.run, self.terms.round)} if self._state.gathered else set()
        sessions = history.sessions | {self.terms.session.hex()}
        return History(sessions=sessions, released=history.released | released)

    def advertise(self) -> bytes:
        """Return the helper's key, signed; the same one each time."""
        return encode(self._state.key)

    def release(self, gathered: bytes, *, history: History) -> tuple[bytes, Levels | None]:
        """Check what the survivors said; return the Correction and minus the sum of their masks (uint32).

        Asked the same again, it returns the same message, and None: the driver has the vector.

        Raises:
            SecureAggregationError: second-survivor-set, round-released, too-few-sites, not-a-member, substituted-key,
                forged, untrue-share or malformed; nothing was released, but for what was before.
        """
        digest = hashlib.sha256(gathered).hexdigest()
        if self._state.gathered == digest:
            return self._state.reply, None
        if self._state.gathered:
            raise abort(Reason.SECOND_SURVIVOR_SET, "masks were taken off over another set of sites before")
        _require_unreleased(self.terms, history)
        vector = self._correction(read(gathered, Gathered))
        message = Correction(
            site=self._seat.site,
            survivors=survivors_hash(self._context(), gathered),
            vector=digest_of(vector.data.cast("B")),
            count=vector.size,
        )
        reply = encode(signed(message, self._context(), self._seat.identity.key))
        self._state = msgspec.structs.replace(self._state, entropy=b"", gathered=digest, reply=reply)
        return reply, vector

    def _correction(self, gathered: Gathered) -> Levels:
        terms, seat, context = self.terms, self._seat, self._context()
        sites = [masked.site for masked in gathered.masked]
        if sites != sorted(set(sites)):
            raise abort(Reason.MALFORMED, "the survivors are not sorted, or one is there twice")
        if len(sites) < max(terms.least, seat.least_sites):
            detail = f"{len(sites)} of {len(terms.parties)} sites survived, at least {terms.least} are needed"
            raise abort(Reason.TOO_FEW_SITES, detail, hint="wait for the sites that are away, or run the round again")
        key = _channel(self._state.entropy, terms)
        masks = []
        for masked in gathered.masked:
            require_party(masked, terms, context, seat.trust, seat.now)
            masks.append(opened_mask(key, context, masked.site, masked.channel_key, masked.seed))
        vector = np.zeros(terms.layout.count, np.dtype("<u4"))
        apply_masks(vector, added=[], removed=masks)
        return vector

    def _context(self) -> bytes:
        return hash_of(self.terms.session, Label.CONTEXT, encode(self._state.key))


def _channel(entropy: bytes, terms: Terms) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(derive(entropy, terms.session, Label.HELPER_KEY, terms.helper))


def _require_unreleased(terms: Terms, history: History) -> None:
    if (terms.run, terms.round) in history.released:
        detail = f"masks were taken off in round {terms.round} of {terms.run} before"
        raise abort(Reason.ROUND_RELEASED, detail, hint="go on with the next round")
