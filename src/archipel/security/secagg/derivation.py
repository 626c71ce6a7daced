"""Every key, hash and signature of the protocol, told apart by a label and bound to one session.

A session is named by 32 bytes: `sid`, the digest of its terms (run, round, attempt, model, parameters, members), and
once it is known who advertised keys, `context`, the digest of sid and all adverts. Nothing is derived, hashed or
signed without one of the two, so nothing of one round means anything in another.

    key        HKDF-SHA256(secret, salt=session, info=bind(PROTOCOL, label, names…))     RFC 5869
    hash       SHA-256(bind(PROTOCOL, label, session, parts…))                           FIPS 180-4
    signature  ECDSA over bind(PROTOCOL, type of message, session, canonical message)    see trust.py

Example:
    >>> bind(b"a", b"bc") == bind(b"ab", b"c")
    False
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PROTOCOL = "archipel/secagg/1"
KEY_BYTES = 32


class Label(StrEnum):
    """What a derived value is for. Two values with different labels, sessions or names are unrelated."""

    CHANNEL_KEY = "channel key"
    """A site's X25519 key for sealing shares, from its entropy."""
    MASK_KEY = "mask key"
    """A site's X25519 key for masks shared with a neighbour, from its entropy."""
    SELF_SEED = "self seed"
    """The seed of a site's own mask, from its entropy."""
    COEFFICIENTS = "share coefficients"
    """The AES key behind the polynomials of a site's shares, from its entropy."""
    ROUNDING = "rounding"
    """The AES key behind a site's stochastic rounding, from its entropy."""
    CHANNEL = "channel"
    """Two AEAD keys of a pair of sites, one for each direction."""
    PAIR_MASK = "pair mask"
    """The AES key of the mask that two neighbours share."""
    SELF_MASK = "self mask"
    """The AES key of the mask a site adds on its own."""
    COMMITMENT = "commitment"
    """Hash by which a site is held to its self seed."""
    CONTEXT = "context"
    """Hash of the session's adverts."""
    RING = "ring"
    """Hash that orders the sites on the ring."""
    SURVIVORS = "survivors"
    """Hash of the survivor set that sites sign."""
    SEALED_SHARE = "sealed share"
    """Associated data of a sealed share."""
    HELPER_KEY = "helper key"
    """A helper's X25519 key for opening seeds, from its entropy."""
    SEED_CHANNEL = "seed channel"
    """The AEAD key of a seed, of a site and the helper."""
    SEALED_SEED = "sealed seed"
    """Associated data of a sealed seed."""


def bind(*parts: bytes | str) -> bytes:
    """Join parts so that no two different lists of parts give the same bytes: each is preceded by its length."""
    joined = bytearray()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        joined += len(raw).to_bytes(4, "big")
        joined += raw
    return bytes(joined)


def derive(secret: bytes, session: bytes, label: Label, *names: str, size: int = KEY_BYTES) -> bytes:
    """Return `size` bytes of key from `secret`, for this label, session and these names (RFC 5869)."""
    return HKDF(hashes.SHA256(), size, salt=session, info=bind(PROTOCOL, label, *names)).derive(secret)


def hash_of(session: bytes, label: Label, *parts: bytes | str) -> bytes:
    """Return the SHA-256 (32 bytes) of `parts`, for this label and session."""
    return hashlib.sha256(bind(PROTOCOL, label, session, *parts)).digest()
