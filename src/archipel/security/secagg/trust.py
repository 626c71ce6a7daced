"""Who signed: certified identities, and the signatures of statements.

A site believes a peer's keys because a certificate under the pinned authority names the peer, the terms name that
certificate, and the peer's key signed the keys. Whoever holds the authority's key can certify a stranger in a peer's
name, or sites that do not exist; a site that keeps `pins`, digests of its peers' public keys from another source,
believes those keys only.

Signatures are deterministic (RFC 6979), so a session is a function of its inputs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from archipel.security.authority import site_of
from archipel.security.keys import PrivateKey, PublicKey, key_digest
from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.derivation import PROTOCOL, bind
from archipel.security.secagg.messages import Statement
from archipel.spec import Digest, TrustError, encode

S = TypeVar("S", bound=Statement)


class Identity(NamedTuple):
    """A site's own key and certificate."""

    key: PrivateKey
    certificate: str
    """PEM."""


class Trust:
    """What a peer's certificate is held against. Keep one for many sessions: each certificate is verified once."""

    def __init__(
        self,
        authority: str,
        *,
        pins: Mapping[str, Digest] | None = None,
        revoked: frozenset[int] = frozenset(),
    ) -> None:
        """Take the authority's certificate (PEM), public keys known beforehand, and revoked serial numbers.

        `pins` has the digest of each site's public key, as `key_digest` makes it: then no other site and no other key
        is believed. None: every site that the authority certifies is.
        """
        self._store = Store([x509.load_pem_x509_certificate(authority.encode())])
        self._pins = None if pins is None else dict(pins)
        self._revoked = revoked
        self._verified: dict[str, _Verified] = {}

    def peer(self, site: str, certificate: str, now: dt.datetime) -> Peer:
        """Return the public key of `site`, whose certificate (PEM) this is, and the certificate's fingerprint.

        Raises:
            TrustError: the certificate is not the authority's, not valid now, revoked, of another site, or its key is
                not the pinned one.
        """
        verified = self._verified.get(certificate)
        if verified is None:
            verified = self._verified[certificate] = self._verify(certificate, now)
        hint = f"let {site} join again, or ask its operator which key is its own"
        if verified.site != site:
            raise TrustError(f"a certificate of {verified.site} in the name of {site}", hint=hint)
        if not verified.begin <= now <= verified.end:
            raise TrustError(f"the certificate of {site} is not valid now", hint=hint)
        if self._pins is not None and self._pins.get(site) != verified.pin:
            raise TrustError(f"the key of {site} is not the pinned one, or none is pinned", hint=hint)
        return verified.peer

    def _verify(self, pem: str, now: dt.datetime) -> _Verified:
        hint = "only sites that joined this control plane can take part"
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            PolicyBuilder().store(self._store).time(now).build_client_verifier().verify(certificate, [])
        except (ValueError, VerificationError) as error:
            raise TrustError(f"a certificate does not hold: {error}", hint=hint) from error
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or certificate.serial_number in self._revoked:
            raise TrustError("a certificate is revoked, or its key of another kind", hint=hint)
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        peer = Peer(key, certificate.fingerprint(hashes.SHA256()).hex())
        return _Verified(site=site_of(pem), peer=peer, pin=key_digest(key), begin=begin, end=end)


class Peer(NamedTuple):
    """Who a verified certificate is of."""

    key: PublicKey
    fingerprint: str
    """SHA-256 of the certificate, in hex."""


class _Verified(NamedTuple):
    site: str
    peer: Peer
    pin: Digest
    begin: dt.datetime
    end: dt.datetime


def signed(statement: S, session: bytes, key: PrivateKey) -> S:
    """Return the statement with its signature for this session."""
    scheme = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    return msgspec.structs.replace(statement, signature=key.sign(_covered(statement, session), scheme))


def require_signed(statement: Statement, session: bytes, key: PublicKey) -> None:
    """Hold a statement against the key of the site it names.

    Raises:
        SecureAggregationError: forged.
    """
    try:
        key.verify(statement.signature, _covered(statement, session), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        kind = type(statement).__name__
        raise abort(Reason.FORGED, f"the signature of {statement.site} under its {kind} does not hold") from error


def _covered(statement: Statement, session: bytes) -> bytes:
    """Return what a signature covers: protocol, type, session, and the message without the signature."""
    kind = str(type(statement).__struct_config__.tag)
    return bind(PROTOCOL, kind, session, encode(msgspec.structs.replace(statement, signature=b"")))
