"""Keys, certificates and join tokens: who is who, and who may join."""

from archipel.security.authority import Authority, expiry_of, site_of
from archipel.security.keys import (
    PrivateKey,
    certified_key,
    fingerprint,
    key_digest,
    load_or_make_key,
    signing_request,
    write_secret,
)
from archipel.security.tokens import Invitation, JoinToken, check, issue, read_token

__all__ = [
    "Authority",
    "Invitation",
    "JoinToken",
    "PrivateKey",
    "certified_key",
    "check",
    "expiry_of",
    "fingerprint",
    "issue",
    "key_digest",
    "load_or_make_key",
    "read_token",
    "signing_request",
    "site_of",
    "write_secret",
]
