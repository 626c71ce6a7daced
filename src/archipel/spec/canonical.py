"""Canonical bytes of a value, their digest, and the way back.

One codec for files, database and wire: JSON in msgspec's deterministic order (struct fields in definition order,
mapping keys sorted, floats in shortest form that reads back to the same number). Each stored or transmitted value
carries a `type` tag such as "update/1"; an unknown tag, field or version is refused, never guessed.

Example:
    >>> from archipel.spec.canonical import digest_of
    >>> digest_of(b"")
    'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, TypeVar

import msgspec

from archipel.spec.errors import SpecError

# "$" alone also matches before a newline at the end; the look-ahead shuts that door, here and in ECMAScript.
Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$(?!\n)", description="SHA-256 of the bytes")]
Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$(?!\n)", description="lower-case letters, digits, '.', '_' and '-'"
    ),
]

V = TypeVar("V")

_ENCODER = msgspec.json.Encoder(order="deterministic")


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything that crosses a room border: frozen, keyword-only, refusing unknown fields."""


def encode(value: Any) -> bytes:
    """Return the canonical bytes of `value` (a spec value, or plain JSON data)."""
    return _ENCODER.encode(value)


def decode(data: bytes, type_: type[V]) -> V:
    """Read canonical bytes back as `type_`; anything unexpected is a SpecError that names the place."""
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        name = getattr(type_, "__name__", str(type_))
        raise SpecError(f"not a valid {name}: {error}", hint="both sides must run the same archipel version") from error


def digest_of(data: bytes | memoryview) -> str:
    """Return the SHA-256 digest of `data` as 'sha256:<hex>'."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_value(value: Any) -> str:
    """Return the digest of the canonical bytes of `value`."""
    return digest_of(encode(value))


def digest_text(value: bytes) -> str:
    """Return 32 bytes of SHA-256 as they are written: 'sha256:<hex>'."""
    return "sha256:" + value.hex()


def digest_bytes(text: str) -> bytes:
    """Return the 32 bytes of a written digest; a SpecError where it is none."""
    kind, _, words = text.partition(":")
    if kind != "sha256" or len(words) != 64:
        raise SpecError(f"{text!r} is no digest", hint="hashes are written as sha256: and 64 hexadecimal digits")
    return bytes.fromhex(words)
