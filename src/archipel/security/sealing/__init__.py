"""Encryption at rest: sealed objects (chunks), their key (keyring), what wraps it (wrapping), its file's place (place).

Pure values, and two small files beside the state. What it protects against, and what not: docs/concepts/encryption.md.
"""

from archipel.security.sealing.chunks import (
    CHUNK_BYTES,
    HEADER_BYTES,
    SEALED_CHUNK_BYTES,
    Envelope,
    Sealing,
    chunk_count,
    chunk_place,
    is_sealed,
    opened_bytes,
    sealed_bytes,
)
from archipel.security.sealing.keyring import DEFAULT_KEY, KEYRING, NO_KEY, open_sealing, rekey
from archipel.security.sealing.place import key_url
from archipel.security.sealing.wrapping import Wrapping, wrapping_of

__all__ = [
    "CHUNK_BYTES",
    "DEFAULT_KEY",
    "HEADER_BYTES",
    "KEYRING",
    "NO_KEY",
    "SEALED_CHUNK_BYTES",
    "Envelope",
    "Sealing",
    "Wrapping",
    "chunk_count",
    "chunk_place",
    "is_sealed",
    "key_url",
    "open_sealing",
    "opened_bytes",
    "rekey",
    "sealed_bytes",
    "wrapping_of",
]
