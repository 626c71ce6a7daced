"""ID tokens of an OpenID Connect issuer: which one is believed, decided without asking anybody.

What is required, in order (OpenID Connect Core 1.0, 3.1.3.7; RFC 8725): a compact JWS by one of ALGORITHMS, which are
all asymmetric; a key of the issuer's own set, meant for signatures and of the algorithm's kind, and no key that the
token brings along; the signature; this issuer; this client as audience; a life that has begun and not ended; a subject.

Each refusal is a TrustError that names the reason and repeats nothing of the token.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec

from archipel.spec import MissingExtraError, TrustError, Value

ALGORITHMS = {"RS256": "RSA", "RS384": "RSA", "PS256": "RSA", "PS384": "RSA", "ES256": "EC", "ES384": "EC"}
"""Algorithm → kind of its keys. Without `none`, and without those whose key verifies and signs (HS256)."""
LEEWAY_SECONDS = 60.0
"""Clocks may differ by this much."""
LONGEST_SECONDS = 600.0
"""A token issued longer ago is not taken for a log-in, whatever end it names."""
MAX_TOKEN_BYTES = 16 * 1024
_HINT = (
    "log in again with `archipel login --issuer`; if it repeats, an admin compares the issuer's file with the issuer"
)


class Expected(Value, frozen=True, kw_only=True):
    """Whose tokens are believed."""

    issuer: str
    client_id: str


class UnknownKeyError(TrustError):
    """The token names a key that is not in the set; the set may have changed since it was fetched."""


def require_library() -> None:
    """Raise a MissingExtraError where tokens cannot be verified here."""
    try:
        import joserfc  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        hint = "pip install -e '.[oidc]' in the checkout"
        raise MissingExtraError("logging in by an OIDC issuer needs joserfc", hint=hint) from error


def verify(token: str, keys: Sequence[dict[str, Any]], expected: Expected, now: float) -> dict[str, Any]:
    """Return the claims of an ID token; `keys` are JWKs, `now` is in seconds since the Unix epoch.

    Raises:
        TrustError: it is not to be believed; UnknownKeyError: none of `keys` has signed it.
    """
    header = _header(token)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _refused(f"its algorithm is none of {', '.join(ALGORITHMS)}")
    if header.get("typ", "JWT") != "JWT":
        raise _refused("it is a token of another type")
    claims = _claims(token, _key(keys, header.get("kid"), algorithm), algorithm)
    _require(claims, expected, now)
    return claims


def _header(token: str) -> dict[str, Any]:
    if len(token) > MAX_TOKEN_BYTES or token.count(".") != 2:
        raise _refused("it is not a signed token")
    head = token.partition(".")[0]
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)), type=dict[str, Any])
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError) as error:
        raise _refused("its header cannot be read") from error
    return found


def _key(keys: Sequence[dict[str, Any]], kid: Any, algorithm: str) -> dict[str, Any]:
    fitting = [key for key in keys if _fits(key, algorithm)]
    named = fitting if kid is None else [key for key in fitting if key.get("kid") == kid]
    if not named:
        raise UnknownKeyError("the token is refused: the issuer has no such key for signatures", hint=_HINT)
    if len(named) > 1:
        raise _refused("it does not say which of the issuer's keys has signed it")
    return named[0]


def _fits(key: dict[str, Any], algorithm: str) -> bool:
    return (
        key.get("kty") == ALGORITHMS[algorithm]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
    )


def _claims(token: str, key: dict[str, Any], algorithm: str) -> dict[str, Any]:
    require_library()
    from joserfc import jwk, jwt  # noqa: PLC0415 - an extra
    from joserfc.errors import JoseError  # noqa: PLC0415

    public = {name: value for name, value in key.items() if name in {"kty", "n", "e", "crv", "x", "y"}}
    try:
        found = jwt.decode(token, jwk.import_key(public), algorithms=[algorithm]).claims
    except (JoseError, ValueError, RecursionError) as error:
        raise _refused("its signature does not hold") from error
    return dict(found)


def _require(claims: dict[str, Any], expected: Expected, now: float) -> None:
    if claims.get("iss") != expected.issuer:
        raise _refused("it is of another issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in audiences or claims.get("azp", expected.client_id) != expected.client_id:
        raise _refused("it is for another audience")
    if len(audiences) > 1 and "azp" not in claims:
        raise _refused("it is for several audiences and names none as authorised")
    if not _number(claims, "exp") > now - LEEWAY_SECONDS:
        raise _refused("it has expired")
    if not now - LONGEST_SECONDS - LEEWAY_SECONDS < _number(claims, "iat") <= now + LEEWAY_SECONDS:
        raise _refused("it was not issued just now; compare the clocks of the issuer and of control")
    if "nbf" in claims and not _number(claims, "nbf") <= now + LEEWAY_SECONDS:
        raise _refused("it does not hold yet")
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise _refused("it names no subject")


def _number(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(f"it has no {name}")
    return float(value)


def _refused(reason: str) -> TrustError:
    return TrustError(f"the token is refused: {reason}", hint=_HINT)
