"""What the roster makes known to everybody: the session's context, who takes part, and the graph over them.

Site and control read a roster with the same code, so they come to the same graph or to an abort.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from archipel.security.keys import PublicKey
from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.derivation import Label, hash_of
from archipel.security.secagg.graph import Graph
from archipel.security.secagg.messages import Advert
from archipel.security.secagg.terms import Terms
from archipel.security.secagg.trust import Trust, require_signed
from archipel.spec import TrustError, encode


def context_of(session: bytes, adverts: Sequence[Advert]) -> bytes:
    """Return the session's name once it is known who takes part: the hash of all adverts, signatures included."""
    return hash_of(session, Label.CONTEXT, *(encode(advert) for advert in adverts))


def graph_of(terms: Terms, sites: Sequence[str], context: bytes) -> Graph:
    """Return the graph over the sites that advertised keys."""
    return Graph.of(sites, members=len(terms.members), neighbours=terms.shape.neighbours, context=context)


def survivors_hash(context: bytes, survivors: Sequence[str]) -> bytes:
    """Return what sites sign of a survivor set."""
    return hash_of(context, Label.SURVIVORS, *survivors)


def require_roster(terms: Terms, adverts: Sequence[Advert]) -> None:
    """Check what can be seen without a signature: members, order, keys used once, quorum.

    Raises:
        SecureAggregationError: malformed, not-a-member, substituted-key or too-few-sites.
    """
    sites = [advert.site for advert in adverts]
    if sites != sorted(set(sites)):
        raise abort(Reason.MALFORMED, "the roster is not sorted, or a site is there twice")
    require_quorum(terms, sites, "advertised keys")
    strangers = set(sites) - {member.site for member in terms.members}
    if strangers:
        raise abort(Reason.NOT_A_MEMBER, f"{min(strangers)} is in the roster and was not invited")
    keys = [key for advert in adverts for key in (advert.channel_key, advert.mask_key)]
    if len(set(keys)) != len(keys):
        raise abort(Reason.SUBSTITUTED_KEY, "one key is there twice in the roster")


def require_certified(advert: Advert, session: bytes, invited: str | None, trust: Trust, now: dt.datetime) -> PublicKey:
    """Return the key of the site an advert is of, if its certificate is the `invited` one and its key signed it.

    Raises:
        SecureAggregationError: substituted-key, with what does not hold.
    """
    try:
        peer = trust.peer(advert.site, advert.certificate, now)
        require_signed(advert, session, peer.key)
    except TrustError as error:
        detail = f"the keys of {advert.site} are not certified: {error.message}"
        raise abort(Reason.SUBSTITUTED_KEY, detail, hint=error.hint) from error
    if peer.fingerprint != invited:
        raise abort(Reason.SUBSTITUTED_KEY, f"{advert.site} is not invited under the certificate it shows")
    return peer.key


def require_quorum(terms: Terms, sites: Sequence[str], what: str) -> None:
    """Check that enough sites are left.

    Raises:
        SecureAggregationError: too-few-sites.
    """
    if len(sites) < terms.shape.quorum:
        detail = f"{len(sites)} of {len(terms.members)} sites {what}, at least {terms.shape.quorum} are needed"
        raise abort(Reason.TOO_FEW_SITES, detail, hint="wait for the sites that are away, or run the round again")
