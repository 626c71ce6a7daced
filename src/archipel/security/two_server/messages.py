"""The messages of a session, in the order in which they are sent.

    stage       who                   says                               is told
    advertise   the helper            HelperKey   its key                Terms
    mask        each site, once       Masked      digest, sealed seed    Invitation   the terms, and the helper's key
    release     the helper            Correction  minus all masks        Gathered     what the survivors said

What a site or the helper sends is a Statement, as in `secagg`. A vector travels as a blob beside the message that
names it by digest.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from archipel.security.secagg.messages import Hash, Key, Statement
from archipel.security.two_server.terms import Terms
from archipel.spec import Digest, Value

SEALED_BYTES = 32 + 16
"""A seed, and the tag of ChaCha20-Poly1305."""


class HelperKey(Statement, frozen=True, kw_only=True, tag="two-server-key/1"):
    """The helper's public key for this session; `site` is the helper."""

    certificate: str
    """PEM."""
    channel_key: Key
    """X25519, for sealing seeds."""


class Invitation(Value, frozen=True, kw_only=True, tag_field="type", tag="two-server-invitation/1"):
    """What a site is asked to take part in."""

    terms: Terms
    key: HelperKey


class Masked(Statement, frozen=True, kw_only=True, tag="two-server-masked/1"):
    """The site's masked vector is this blob, and this the seed of its mask, which only the helper can open."""

    certificate: str
    """PEM; the terms name its key."""
    vector: Digest
    count: Annotated[int, Meta(ge=1)]
    """Words of 32 bits, little-endian."""
    channel_key: Key
    """X25519, made for this one seed."""
    seed: Annotated[bytes, Meta(min_length=SEALED_BYTES, max_length=SEALED_BYTES)]


class Gathered(Value, frozen=True, kw_only=True, tag_field="type", tag="two-server-gathered/1"):
    """What the sites said whose vectors are added up, by site."""

    masked: tuple[Masked, ...]


class Correction(Statement, frozen=True, kw_only=True, tag="two-server-correction/1"):
    """Minus the sum of the survivors' masks is this blob: one vector, whatever their number."""

    survivors: Hash
    """Of what they said, so of who they are."""
    vector: Digest
    count: Annotated[int, Meta(ge=1)]
