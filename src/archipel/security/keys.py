"""Private keys and certificates on disk: made where they are used, written 0600, never sent.

Ed25519 would be shorter, but TLS stacks of Python's `ssl` and gRPC agree on P-256 everywhere, so identities use
ECDSA over P-256 (SEC 2; RFC 5480).
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from archipel.spec import Digest, TrustError, digest_of

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey


def load_or_make_key(path: Path) -> PrivateKey:
    """Return the key in `path`, made there (mode 0600) if the file does not exist.

    Raises:
        TrustError: if the file is not such a key, or others may read it.
    """
    if not path.exists():
        write_secret(path, _pem(ec.generate_private_key(ec.SECP256R1())))
    if path.stat().st_mode & 0o077:
        raise TrustError(f"others may read the key {path}", hint=f"chmod 600 {path}, and consider making a new key")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise TrustError(f"{path} is not a private key", hint="restore it from a backup, or join again") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TrustError(f"{path} holds a key of another kind", hint="remove it and join again")
    return key


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_secret(path: Path, data: bytes) -> None:
    """Write `data` to `path` with mode 0600, in one step: after a crash the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def signing_request(key: PrivateKey, site: str) -> str:
    """Return a PEM signing request for `site`'s certificate."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, site)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def public_bytes(key: PublicKey) -> bytes:
    """Return a public key as DER SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_digest(key: PublicKey) -> Digest:
    """Return what a key is known by: the digest of its public half, which no renewed certificate changes."""
    return digest_of(public_bytes(key))


def fingerprint(certificate_pem: str) -> str:
    """Return the SHA-256 fingerprint of a PEM certificate, in hex."""
    return x509.load_pem_x509_certificate(certificate_pem.encode()).fingerprint(hashes.SHA256()).hex()


def certified_key(certificate_pem: str) -> Digest:
    """Return the digest of the key in a PEM certificate, as `key_digest` makes it."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return digest_of(spki)
