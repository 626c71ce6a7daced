"""What a site keeps to itself, and what two sites can compute together: keys for sealing shares, and for masks.

    entropy ──▶ channel key, mask key (X25519, RFC 7748), self seed, polynomials, rounding        one session, one site
    channel keys of two sites ──▶ one AEAD key a direction (ChaCha20-Poly1305, RFC 8439)
    mask keys of two neighbours ──▶ the AES key of the mask that one adds and the other takes away

An AEAD key seals one message, so its nonce is zero.
"""

from __future__ import annotations

from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.derivation import KEY_BYTES, PROTOCOL, Label, bind, derive, hash_of
from archipel.security.secagg.shamir import split

_NONCE = bytes(12)


class Pair(NamedTuple):
    """Two shares of one site's secrets that one holder keeps; at most one of them ever leaves it."""

    seed: bytes
    key: bytes


class Secrets:
    """All secrets of one site in one session, from 32 bytes of entropy that nothing else is made of."""

    def __init__(self, entropy: bytes, session: bytes, site: str) -> None:
        self._entropy = entropy
        self._session = session
        self._site = site
        self._channel = X25519PrivateKey.from_private_bytes(self._derive(Label.CHANNEL_KEY))
        self._mask = X25519PrivateKey.from_private_bytes(self._derive(Label.MASK_KEY))
        self.seed = self._derive(Label.SELF_SEED)
        self._channels: dict[bytes, bytes] = {}

    def _derive(self, label: Label, *names: str) -> bytes:
        return derive(self._entropy, self._session, label, self._site, *names)

    @property
    def channel_key(self) -> bytes:
        """Public key for sealing."""
        return self._channel.public_key().public_bytes_raw()

    @property
    def mask_key(self) -> bytes:
        """Public key for masks."""
        return self._mask.public_key().public_bytes_raw()

    @property
    def commitment(self) -> bytes:
        """What the seed is held against when it is put together from shares."""
        return commitment_of(self.seed, self._session, self._site)

    @property
    def rounding(self) -> bytes:
        """AES key of the stochastic rounding: the same values are rounded in the same way after a restart."""
        return self._derive(Label.ROUNDING)

    def split(self, holders: int, threshold: int) -> list[Pair]:
        """Return the shares of the self seed and of the mask key, by point from 1."""
        seeds, keys = (
            split(secret, holders=holders, threshold=threshold, key=self._derive(Label.COEFFICIENTS, what))
            for what, secret in (("seed", self.seed), ("key", self._mask.private_bytes_raw()))
        )
        return [Pair(seed, key) for seed, key in zip(seeds, keys, strict=True)]

    def seal(self, shares: Pair, context: bytes, peer: str, channel_key: bytes) -> bytes:
        """Encrypt shares so that only `peer`, whose public key is given, can read them."""
        cipher = self._channel_to(context, peer, channel_key, sending=True)
        return cipher.encrypt(_NONCE, shares.seed + shares.key, _about(context, self._site, peer))

    def open(self, sealed: bytes, context: bytes, peer: str, channel_key: bytes) -> Pair:
        """Decrypt shares that `peer` sealed for this site.

        Raises:
            SecureAggregationError: untrue-share, where they were not sealed so.
        """
        cipher = self._channel_to(context, peer, channel_key, sending=False)
        try:
            plain = cipher.decrypt(_NONCE, sealed, _about(context, peer, self._site))
        except InvalidTag as error:
            raise abort(Reason.UNTRUE_SHARE, f"the share of {peer} does not open") from error
        return Pair(plain[: len(plain) // 2], plain[len(plain) // 2 :])

    def pair_mask(self, context: bytes, peer: str, mask_key: bytes) -> bytes:
        """Return the AES key of the mask shared with `peer`."""
        return pair_mask(self._mask, context, self._site, peer, mask_key)

    def self_mask(self, context: bytes) -> bytes:
        """Return the AES key of the site's own mask."""
        return self_mask(self.seed, context, self._site)

    def _channel_to(self, context: bytes, peer: str, channel_key: bytes, *, sending: bool) -> ChaCha20Poly1305:
        both = self._channels.get(context + channel_key)
        if both is None:  # what is sealed for a peer and what the peer sealed have one agreement
            shared = agree(self._channel, peer, channel_key)
            both = derive(shared, context, Label.CHANNEL, *sorted((self._site, peer)), size=2 * KEY_BYTES)
            self._channels[context + channel_key] = both
        first = (self._site < peer) == sending
        return ChaCha20Poly1305(both[:KEY_BYTES] if first else both[KEY_BYTES:])


def commitment_of(seed: bytes, session: bytes, site: str) -> bytes:
    """Return the commitment to the self seed of `site`."""
    return hash_of(session, Label.COMMITMENT, site, seed)


def self_mask(seed: bytes, context: bytes, site: str) -> bytes:
    """Return the AES key of the mask that `site` adds on its own."""
    return derive(seed, context, Label.SELF_MASK, site)


def pair_mask(key: X25519PrivateKey, context: bytes, site: str, peer: str, mask_key: bytes) -> bytes:
    """Return the AES key of the mask of `site`, whose private key this is, and `peer`: both come to the same."""
    shared = agree(key, peer, mask_key)
    return derive(shared, context, Label.PAIR_MASK, *sorted((site, peer)))


def agree(key: X25519PrivateKey, peer: str, public: bytes) -> bytes:
    """Return the secret (32 bytes) of a private key and the public one of `peer` (RFC 7748).

    Raises:
        SecureAggregationError: substituted-key, where there is none.
    """
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:  # a point of small order: the secret would be zero (RFC 7748, section 6.1)
        raise abort(Reason.SUBSTITUTED_KEY, f"the key of {peer} makes no secret") from error


def _about(context: bytes, sender: str, receiver: str) -> bytes:
    return bind(PROTOCOL, Label.SEALED_SHARE, context, sender, receiver)
