"""A site's side: an invitation in, and out of it one message and one masked vector.

    answer = SiteAnswer.to(invitation, seat=..., history=..., entropy=os.urandom(32))
    message, vector = answer.mask(values, weight=...)

The rules it keeps:
  1. The driver stores the message, the vector and what `remembered` makes of its history before it sends them; asked
     the same again, it sends the same. Nothing else of the session is kept: its secrets end with this object.
  2. One session, one answer: of a second invitation into it, with another key of the helper's, nothing comes.
  3. The terms' fewest sites are what the site's policy asks for; the helper, whose key must be certified under the name
     that the terms have, opens no sum over fewer.
"""

from __future__ import annotations

from collections.abc import Mapping

from archipel.security.keys import key_digest
from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.encoding import Levels, Values
from archipel.security.secagg.masks import apply_masks
from archipel.security.secagg.messages import read
from archipel.security.secagg.site import History
from archipel.security.secagg.trust import signed
from archipel.security.two_server.messages import Invitation, Masked
from archipel.security.two_server.seat import Seat, context_of, require_peers
from archipel.security.two_server.seeds import SiteSeed
from archipel.security.two_server.terms import Terms
from archipel.spec import digest_of, encode


class SiteAnswer:
    """One answer to one invitation; see the module for the rules."""

    def __init__(self, invitation: Invitation, seat: Seat, context: bytes, secrets: SiteSeed) -> None:
        """Use `to`."""
        self._invitation = invitation
        self._seat = seat
        self._context = context
        self._secrets = secrets

    @classmethod
    def to(cls, invitation: bytes, *, seat: Seat, history: History, entropy: bytes) -> SiteAnswer:
        """Check what a site is invited to; `entropy` is 32 random bytes that nothing else is made of.

        Raises:
            SecureAggregationError: malformed, weak-terms, small-cohort, not-a-member, substituted-key or
                replayed-session.
        """
        if len(entropy) != 32:
            raise ValueError("entropy has 32 bytes")
        invited = read(invitation, Invitation)
        terms, site = invited.terms, seat.site
        if terms.key_of(site) != key_digest(seat.identity.key.public_key()):
            raise abort(Reason.NOT_A_MEMBER, f"{site} is not invited under its key")
        terms.require_fair(seat.least_sites)
        require_peers(terms, seat.peers)
        if terms.session.hex() in history.sessions:
            raise abort(Reason.REPLAYED_SESSION, "this site has answered in this session before")
        context = context_of(terms, invited.key, seat.trust, seat.now)
        return cls(invited, seat, context, SiteSeed(entropy, context, site))

    @property
    def terms(self) -> Terms:
        """What the site agrees to."""
        return self._invitation.terms

    def mask(self, values: Mapping[str, Values], *, weight: float) -> tuple[bytes, Levels]:
        """Encode and mask the site's values; return the Masked message and the vector (uint32, little-endian).

        Raises:
            SpecError, ShapeError, NonFiniteError: the values do not fit the layout.
        """
        key, secrets, seat = self._invitation.key, self._secrets, self._seat
        vector = self.terms.layout.encode(values, weight=weight, rounding=secrets.rounding)
        apply_masks(vector, added=[secrets.mask], removed=[])
        message = Masked(
            site=seat.site,
            certificate=seat.identity.certificate,
            vector=digest_of(vector.data.cast("B")),
            count=vector.size,
            channel_key=secrets.channel_key,
            seed=secrets.sealed(key.site, key.channel_key),
        )
        return encode(signed(message, self._context, seat.identity.key)), vector

    def remembered(self, history: History) -> History:
        """Return `history` with this session in it."""
        return History(sessions=history.sessions | {self.terms.session.hex()}, released=history.released)
