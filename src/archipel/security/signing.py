"""Signatures under a job and its code: who answers for it, checked where it is to run.

    signature = sign(job.digest, code, key)
    signer_of(signature, job.digest, code)      # digest of the key that made it; None: it is about something else

A key is known by the digest of its public part. Signatures are ECDSA over P-256 (FIPS 186-5), deterministic (RFC 6979),
over a domain text and the two digests.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from archipel.security.keys import PrivateKey, public_bytes
from archipel.spec import Digest, Value, digest_of, encode

_DOMAIN = "archipel job and code/1"


class Signature(Value, frozen=True, kw_only=True, tag_field="type", tag="signature/1"):
    """Somebody's word for a job and its code."""

    job: Digest
    code: Digest
    key: bytes
    """Public key, DER SubjectPublicKeyInfo."""
    signature: bytes


def sign(job: Digest, code: Digest, key: PrivateKey) -> Signature:
    """Sign a job and its code."""
    scheme = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    return Signature(
        job=job, code=code, key=public_bytes(key.public_key()), signature=key.sign(_covered(job, code), scheme)
    )


def signer_of(signature: Signature, job: Digest, code: Digest) -> Digest | None:
    """Return the digest of the key that signed this job and this code; None: it did not."""
    if (signature.job, signature.code) != (job, code):
        return None
    try:
        key = serialization.load_der_public_key(signature.key)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            return None
        key.verify(signature.signature, _covered(job, code), ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        return None
    return digest_of(signature.key)


def _covered(job: Digest, code: Digest) -> bytes:
    return encode([_DOMAIN, job, code])
