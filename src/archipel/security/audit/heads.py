"""Signed heads: who vouches for a log, and which newer head a witness accepts after the one it keeps.

The signer is the control plane's CA: its certificate is what a site pins when it joins, so no second key has to be
handed out. A text no certificate begins with stands before the head, so neither signature can pass for the other.
"""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from archipel.security.audit.proofs import is_consistent
from archipel.spec import AuditError, digest_bytes, digest_text, encode
from archipel.spec.audit import LogGrowth, SignedHead, TreeHead

_DOMAIN = b"archipel-tree-head/1\n"
_SIGNATURE = ec.ECDSA(hashes.SHA256())


def sign_head(key: ec.EllipticCurvePrivateKey, size: int, root: bytes, now: float) -> SignedHead:
    """Vouch for a log of `size` entries with this root."""
    head = TreeHead(log=log_id(key.public_key()), size=size, root=digest_text(root), at=now)
    return SignedHead(head=head, signature=key.sign(_DOMAIN + encode(head), _SIGNATURE))


def verify_head(signed: SignedHead, ca_pem: str) -> TreeHead:
    """Return the head, if the CA with this certificate signed it.

    Raises:
        AuditError: it is another log's, or the signature does not hold.
    """
    key = x509.load_pem_x509_certificate(ca_pem.encode()).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or signed.head.log != log_id(key):
        raise AuditError("the head is of another log", hint="name the control plane, or the site, that it belongs to")
    try:
        key.verify(signed.signature, _DOMAIN + encode(signed.head), _SIGNATURE)
    except InvalidSignature as error:
        hint = "whoever sent it does not hold the control plane's key: keep it, and ask who did"
        raise AuditError("the signature of the audit log's head does not hold", hint=hint) from error
    return signed.head


def accept(kept: SignedHead | None, growth: LogGrowth, ca_pem: str) -> SignedHead:
    """Return the head to keep from now on.

    Args:
        kept: the head accepted before; None: this is the first.
        growth: what the log offers.
        ca_pem: certificate (PEM) of the CA that signs for the log.

    Raises:
        AuditError: the log has shrunk, was changed or forked, or cannot prove that it was not.
    """
    new = verify_head(growth.head, ca_pem)
    if kept is None:
        return growth.head  # the first is believed: what was changed before it, nobody witnessed
    old = kept.head
    if new.size < old.size:
        raise _inconsistent(f"it had {old.size} entries and now has {new.size}")
    if new.size == old.size and new.root != old.root:
        raise _inconsistent(f"two heads of {new.size} entries differ")
    path = [digest_bytes(item) for item in growth.path]
    if growth.since != old.size:
        raise _inconsistent(f"the proof begins at {growth.since} entries, the head kept here at {old.size}")
    if not is_consistent(old.size, digest_bytes(old.root), new.size, digest_bytes(new.root), path):
        raise _inconsistent(f"its {new.size} entries do not begin with the {old.size} seen before")
    return growth.head if new.size > old.size else kept


def log_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return the name of the log that a key signs for: SHA-256 of its SubjectPublicKeyInfo (DER), in hex."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _inconsistent(reason: str) -> AuditError:
    hint = "entries were changed, removed or forked, or a backup was restored: see docs/concepts/audit.md"
    return AuditError(f"the audit log of the control plane is not what it was: {reason}", hint=hint)
