"""Join tokens: one use, one hour, one site.

A token is what an operator hands to a site out of band. It names the control plane's address and the fingerprint of
its CA, so that the first connection already knows whom it talks to, and carries a 128-bit secret. Control keeps only
the secret's hash.

    arc1.<base64url of canonical JSON>

Example:
    >>> token, stored = issue("hospital-a", "https://control:7400", "ab" * 32, secret=bytes(16), now=0.0)
    >>> read_token(token).site
    'hospital-a'
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from archipel.spec import Name, SpecError, TrustError, Value, decode, encode

LIFETIME_SECONDS = 3600.0
SECRET_BYTES = 16
_PREFIX = "arc1."


class JoinToken(Value, frozen=True, kw_only=True):
    """What the token says to the site."""

    site: Name
    control: str
    """Address of the control plane's HTTPS port."""
    ca: str
    """SHA-256 fingerprint of the CA's certificate, in hex."""
    secret: str
    """128 bits, in hex."""


class Invitation(Value, frozen=True, kw_only=True):
    """What control keeps of a token."""

    site: Name
    secret_hash: str
    expires_at: float
    """Seconds since the Unix epoch."""
    used: bool = False


def issue(
    site: str, control: str, ca: str, *, secret: bytes, now: float, lifetime_seconds: float = LIFETIME_SECONDS
) -> tuple[str, Invitation]:
    """Return the token for the site and the invitation for control; `secret` is SECRET_BYTES random bytes."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes")
    token = JoinToken(site=site, control=control, ca=ca, secret=secret.hex())
    text = _PREFIX + base64.urlsafe_b64encode(encode(token)).decode().rstrip("=")
    stored = Invitation(site=site, secret_hash=hash_of(secret.hex()), expires_at=now + lifetime_seconds)
    return text, stored


def read_token(text: str) -> JoinToken:
    """Read a token as the operator pasted it.

    Raises:
        TrustError: it is not a whole token.
    """
    body = text.strip().removeprefix(_PREFIX)
    hint = "copy the whole line that `archipel invite` printed"
    if not text.strip().startswith(_PREFIX):
        raise TrustError("this is not a join token", hint=hint)
    try:
        return decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), JoinToken)
    except (SpecError, binascii.Error, ValueError) as error:
        raise TrustError("the join token is damaged", hint=hint) from error


def check(invitation: Invitation, site: str, secret: str, now: float) -> None:
    """Accept the secret for `site`, or raise; the caller then stores that it was used.

    Raises:
        TrustError: used, expired, for another site, or wrong; the message says which.
    """
    hint = f"ask for a new one: `archipel invite {site}`"
    if invitation.site != site:
        raise TrustError(f"the token is for site {invitation.site!r}, not {site!r}", hint=hint)
    if invitation.used:
        raise TrustError("the token has been used", hint=hint)
    if now > invitation.expires_at:
        raise TrustError(f"the token expired {now - invitation.expires_at:.0f} s ago", hint=hint)
    if not hmac.compare_digest(invitation.secret_hash, hash_of(secret)):
        raise TrustError("the token's secret is wrong", hint=hint)


def hash_of(secret: str) -> str:
    """Return what control keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
