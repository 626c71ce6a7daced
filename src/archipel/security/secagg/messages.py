"""The messages of a session, in the order in which they are sent.

    stage       sites → control                       control → sites
    advertise   Advert      public keys               Roster      everybody's adverts
    share       Sealed      shares, sealed            Delivery    those for the site, and who shared
    mask        Masked      digest of the vector      Survivors   whose vectors are added up
    consent     Consent     "I saw these survivors"   Consents    those of the holders of the site's shares
    release     Released    shares, one of each peer  (the sum)

What a site sends is a Statement: signed with the key of its certificate over the message's type, the session and its
canonical bytes. The masked vector itself travels as a blob beside its message, which names it by digest.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from msgspec import Meta

from archipel.security.secagg.abort import Reason, abort
from archipel.spec import Digest, Name, SpecError, Value, decode

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Statement(Value, frozen=True, kw_only=True, tag_field="type"):
    """What a site says, signed."""

    site: Name
    signature: bytes = b""
    """ECDSA over P-256 with SHA-256, DER; see trust.py for what it covers."""


class Advert(Statement, frozen=True, kw_only=True, tag="secagg-advert/1"):
    """A site's public keys for this session."""

    certificate: str
    """PEM; the terms name its fingerprint."""
    channel_key: Key
    """X25519, for sealing shares."""
    mask_key: Key
    """X25519, for masks."""
    commitment: Hash
    """Hash of the seed of the site's own mask."""


class Roster(Value, frozen=True, kw_only=True, tag_field="type", tag="secagg-roster/1"):
    """All adverts, by site."""

    adverts: tuple[Advert, ...]


class Sealed(Statement, frozen=True, kw_only=True, tag="secagg-sealed/1"):
    """A site's shares for their holders; only they can open them."""

    shares: dict[Name, bytes]


class Delivery(Value, frozen=True, kw_only=True, tag_field="type", tag="secagg-delivery/1"):
    """The shares a site is to hold."""

    sharers: tuple[Name, ...]
    """All sites whose shares arrived, by name."""
    shares: dict[Name, bytes]
    """Sealed, by the site whose secrets they are of."""


class Masked(Statement, frozen=True, kw_only=True, tag="secagg-masked/1"):
    """The site's masked vector is this blob."""

    vector: Digest
    count: Annotated[int, Meta(ge=1)]
    """Words of 32 bits, little-endian."""


class Survivors(Value, frozen=True, kw_only=True, tag_field="type", tag="secagg-survivors/1"):
    """The sites whose vectors are added up, by name."""

    sites: tuple[Name, ...]


class Consent(Statement, frozen=True, kw_only=True, tag="secagg-consent/1"):
    """The site saw this survivor set and will see no other."""

    survivors: Hash


class Consents(Value, frozen=True, kw_only=True, tag_field="type", tag="secagg-consents/1"):
    """What the holders of the site's shares consented to."""

    consents: tuple[Consent, ...]


class Released(Statement, frozen=True, kw_only=True, tag="secagg-released/1"):
    """One share of each peer: of its self seed where it survived, of its mask key where it dropped out."""

    seeds: dict[Name, bytes]
    keys: dict[Name, bytes]


M = TypeVar("M")


def read(data: bytes, kind: type[M]) -> M:
    """Read a message of one kind.

    Raises:
        SecureAggregationError: malformed.
    """
    try:
        return decode(data, kind)
    except SpecError as error:
        raise abort(Reason.MALFORMED, error.message, hint=error.hint) from error
