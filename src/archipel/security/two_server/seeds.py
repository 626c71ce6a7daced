"""A site's seed, sealed so that the helper alone can read it.

    entropy ──▶ seed, X25519 key of its own (RFC 7748), rounding                                 one session, one site
    the two X25519 keys ──▶ one AEAD key (ChaCha20-Poly1305, RFC 8439), for one seed: its nonce is zero
    seed ──▶ AES key of the site's mask

The helper's X25519 key lasts for one session, so what was recorded stays closed to who steals its identity later.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.derivation import PROTOCOL, Label, bind, derive
from archipel.security.secagg.site_secrets import agree, self_mask

_NONCE = bytes(12)


class SiteSeed:
    """All secrets of one site in one session, from 32 bytes of entropy that nothing else is made of."""

    def __init__(self, entropy: bytes, context: bytes, site: str) -> None:
        self._context = context
        self._site = site
        self._channel = X25519PrivateKey.from_private_bytes(derive(entropy, context, Label.CHANNEL_KEY, site))
        self._seed = derive(entropy, context, Label.SELF_SEED, site)
        self.rounding = derive(entropy, context, Label.ROUNDING, site)
        """AES key of the stochastic rounding."""

    @property
    def channel_key(self) -> bytes:
        """Public key that the helper opens the seed with."""
        return self._channel.public_key().public_bytes_raw()

    @property
    def mask(self) -> bytes:
        """AES key of the site's mask."""
        return self_mask(self._seed, self._context, self._site)

    def sealed(self, helper: str, channel_key: bytes) -> bytes:
        """Return the seed for the helper, whose public key is given."""
        cipher = _channel(self._channel, helper, channel_key, self._context, self._site)
        return cipher.encrypt(_NONCE, self._seed, _about(self._context, self._site, self.channel_key))


def opened_mask(key: X25519PrivateKey, context: bytes, site: str, channel_key: bytes, sealed: bytes) -> bytes:
    """Return the AES key of the mask of `site`, whose seed was sealed to the helper's `key`.

    Raises:
        SecureAggregationError: untrue-share, where it was not sealed so, in this session, by this site.
    """
    try:
        seed = _channel(key, site, channel_key, context, site).decrypt(
            _NONCE, sealed, _about(context, site, channel_key)
        )
    except InvalidTag as error:
        raise abort(Reason.UNTRUE_SHARE, f"the seed of {site} does not open") from error
    return self_mask(seed, context, site)


def _channel(key: X25519PrivateKey, peer: str, public: bytes, context: bytes, site: str) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(derive(agree(key, peer, public), context, Label.SEED_CHANNEL, site))


def _about(context: bytes, site: str, channel_key: bytes) -> bytes:
    return bind(PROTOCOL, Label.SEALED_SEED, context, site, channel_key)
