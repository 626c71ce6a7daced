"""Who a site or the helper is in a session, whom it believes, and how a statement is held against the terms."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import NamedTuple

from archipel.security.keys import PublicKey, key_digest
from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.derivation import Label, hash_of
from archipel.security.secagg.trust import Identity, Trust, require_signed
from archipel.security.two_server.messages import HelperKey, Masked
from archipel.security.two_server.terms import Terms
from archipel.spec import Digest, TrustError, encode


class Seat(NamedTuple):
    """One party."""

    site: str
    identity: Identity
    trust: Trust
    """A site's: of helpers. The helper's: of sites."""
    now: dt.datetime
    """Time at which the others' certificates must be valid."""
    least_sites: int
    """Fewest sites in a sum."""
    peers: Mapping[str, Digest] | None = None
    """Site → digest of its public key, of the only sites a sum may be with; None: of any."""


def require_peers(terms: Terms, peers: Mapping[str, Digest] | None) -> None:
    """Hold the invited sites against the only ones there may be.

    Raises:
        SecureAggregationError: substituted-key.
    """
    for party in terms.parties if peers is not None else ():
        if peers is not None and peers.get(party.site) != party.key:
            raise abort(Reason.SUBSTITUTED_KEY, f"the key of {party.site} is not the pinned one, or none is pinned")


def context_of(terms: Terms, key: HelperKey, trust: Trust, now: dt.datetime) -> bytes:
    """Return the session's name once the helper's key is known, if that is certified and of nobody else.

    Raises:
        SecureAggregationError: substituted-key, with what does not hold.
    """
    if key.site != terms.helper:
        raise abort(Reason.SUBSTITUTED_KEY, f"a key of {key.site}, and {terms.helper} is the helper")
    try:
        peer = trust.peer(key.site, key.certificate, now)
        require_signed(key, terms.session, peer.key)
    except TrustError as error:
        detail = f"the key of the helper {key.site} is not certified: {error.message}"
        raise abort(Reason.SUBSTITUTED_KEY, detail, hint=error.hint) from error
    if key_digest(peer.key) in {party.key for party in terms.parties}:
        raise abort(Reason.SUBSTITUTED_KEY, f"{key.site} has the key of a site in the sum")
    return hash_of(terms.session, Label.CONTEXT, encode(key))


def require_party(masked: Masked, terms: Terms, context: bytes, trust: Trust, now: dt.datetime) -> PublicKey:
    """Return the key of the site a statement is of, if it is the invited one and signed the statement.

    Raises:
        SecureAggregationError: not-a-member, substituted-key, forged, or malformed where the count is another one.
    """
    invited = terms.key_of(masked.site)
    if invited is None:
        raise abort(Reason.NOT_A_MEMBER, f"{masked.site} is not invited")
    try:
        key = trust.peer(masked.site, masked.certificate, now).key
    except TrustError as error:
        detail = f"the certificate of {masked.site} does not hold: {error.message}"
        raise abort(Reason.SUBSTITUTED_KEY, detail, hint=error.hint) from error
    if key_digest(key) != invited:
        raise abort(Reason.SUBSTITUTED_KEY, f"{masked.site} is not invited under the key it shows")
    require_signed(masked, context, key)
    if masked.count != terms.layout.count:
        raise abort(Reason.MALFORMED, f"the vector of {masked.site} has {masked.count} words")
    return key


def survivors_hash(context: bytes, gathered: bytes) -> bytes:
    """Return what the helper signs of the survivors."""
    return hash_of(context, Label.SURVIVORS, gathered)
