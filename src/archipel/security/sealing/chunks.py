"""A sealed object: a header, then AES-256-GCM chunks that stand only in their place, in their object, under its name.

    magic 8 │ key id 8 │ salt 32 │ plain size 8 │ zeros 8 │ tag 32        the header
    prefix 7 │ ciphertext of 64 KiB │ tag 16                              each chunk; the last one is shorter

Object keys     HKDF-SHA256(data key, salt) gives one key for the chunks and one for the header (RFC 5869)
Chunk's nonce   prefix │ number of the chunk (4 bytes, big-endian) │ 1 for the last chunk, else 0: STREAM of Hoang,
                Reyhanitabar, Rogaway and Vizár (CRYPTO 2015). A chunk that is moved, or cut off behind, does not open.
                The prefix is drawn anew each time a chunk is written, so that what is written again after a crash
                never meets the same nonce; this is where it differs from the paper, whose prefix is one per object.
Header's tag    HMAC-SHA256 over the header and the digest of the plain bytes, which is the object's name and is not
                in the header: an object that lies under another's name does not open.

Nothing here touches a disk. `entropy` gives so many random bytes.

Example:
    >>> sealing = Sealing(bytes(32))
    >>> envelope = sealing.envelope(5)
    >>> envelope.open(0, envelope.seal(0, b"coral"))
    b'coral'
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from archipel.spec import SealError

MAGIC = b"ARCHSL01"
CHUNK_BYTES = 64 * 1024
"""Plain bytes of a chunk: a fresh cipher costs 1 % of it, and what is read at any place is little more than asked."""
_ID_BYTES, _SALT_BYTES, _PREFIX_BYTES, _TAG_BYTES = 8, 32, 7, 16
_UNTAGGED_BYTES = 64
HEADER_BYTES = _UNTAGGED_BYTES + 32
OVERHEAD_BYTES = _PREFIX_BYTES + _TAG_BYTES
SEALED_CHUNK_BYTES = CHUNK_BYTES + OVERHEAD_BYTES
MAX_BYTES = 2**32 * CHUNK_BYTES
KEY_BYTES = 32
Entropy = Callable[[int], bytes]
_AGAIN = "restore it from a backup, or resume the run: what can be fetched or made again is"


class Sealing:
    """A data key: makes and reads the envelopes of objects."""

    def __init__(self, data_key: bytes, entropy: Entropy = os.urandom) -> None:
        """`data_key` has 32 bytes."""
        self.data_key = data_key
        self._entropy = entropy
        self.id = _derived(data_key, b"", b"archipel data key id/1", _ID_BYTES)
        """Tells this data key from others, and nothing of it."""

    def envelope(self, size_bytes: int) -> Envelope:
        """Begin an object of so many plain bytes, with keys of its own."""
        if size_bytes >= MAX_BYTES:
            raise SealError(f"an object of {size_bytes} bytes is too long to seal", hint=f"the most is {MAX_BYTES}")
        return Envelope(self, self._entropy(_SALT_BYTES), size_bytes, self._entropy)

    def opened(self, header: bytes, digest: str) -> Envelope:
        """Return the envelope of the object `digest` whose file begins with `header`.

        Raises:
            SealError: it is not sealed, by another key, or is not that object.
        """
        if not is_sealed(header) or len(header) < HEADER_BYTES:
            raise SealError(f"{digest} is not sealed, or its header is cut short", hint=_AGAIN)
        if header[8:16] != self.id:
            message = f"{digest} is sealed with another key ({header[8:16].hex()}, here is {self.id.hex()})"
            raise SealError(message, hint="bring back the keyring.json that lay beside it")
        envelope = Envelope(self, header[16:48], int.from_bytes(header[48:56], "little"), self._entropy)
        if not hmac.compare_digest(envelope.header(digest), header[:HEADER_BYTES]):
            raise SealError(f"the header of {digest} was changed, or is another object's", hint=_AGAIN)
        return envelope


class Envelope:
    """The keys of one object."""

    def __init__(self, sealing: Sealing, salt: bytes, size_bytes: int, entropy: Entropy) -> None:
        self.size_bytes = size_bytes
        """Plain bytes of the object."""
        self.chunks = chunk_count(size_bytes)
        self._begin = MAGIC + sealing.id + salt + size_bytes.to_bytes(8, "little") + bytes(8)
        keys = _derived(sealing.data_key, salt, b"archipel sealed object/1", 2 * KEY_BYTES)
        self._cipher, self._tag_key = AESGCM(keys[:KEY_BYTES]), keys[KEY_BYTES:]
        self._entropy = entropy

    def header(self, digest: str) -> bytes:
        """Return the header of an object whose plain bytes have this digest."""
        return self._begin + hmac.digest(self._tag_key, self._begin + digest.encode(), "sha256")

    def length_of(self, index: int) -> int:
        """Return the plain bytes of a chunk."""
        return min(CHUNK_BYTES, self.size_bytes - index * CHUNK_BYTES)

    def seal(self, index: int, data: bytes | bytearray | memoryview) -> bytes:
        """Return chunk `index`, sealed."""
        prefix = self._entropy(_PREFIX_BYTES)
        return prefix + self._cipher.encrypt(self._nonce(prefix, index), data, None)

    def open(self, index: int, data: bytes | memoryview) -> bytes:
        """Return the plain bytes of chunk `index`.

        Raises:
            SealError: it was changed, cut, or is not this chunk.
        """
        prefix, rest = bytes(data[:_PREFIX_BYTES]), data[_PREFIX_BYTES:]
        if len(rest) == self.length_of(index) + _TAG_BYTES:
            try:
                return self._cipher.decrypt(self._nonce(prefix, index), rest, None)
            except InvalidTag:
                pass
        raise SealError(f"chunk {index} of a sealed object was changed, cut off or put elsewhere", hint=_AGAIN)

    def _nonce(self, prefix: bytes, index: int) -> bytes:
        return prefix + index.to_bytes(4, "big") + (b"\1" if index == self.chunks - 1 else b"\0")


def is_sealed(header: bytes) -> bool:
    """Is this the beginning of a sealed object?"""
    return header.startswith(MAGIC)


def chunk_count(size_bytes: int) -> int:
    """Return the chunks of so many plain bytes; no bytes are one empty chunk."""
    return max(1, -(-size_bytes // CHUNK_BYTES))


def chunk_place(index: int) -> int:
    """Return where a chunk begins in the file."""
    return HEADER_BYTES + index * SEALED_CHUNK_BYTES


def sealed_bytes(size_bytes: int) -> int:
    """Return the bytes of the file of an object of so many plain bytes."""
    return HEADER_BYTES + size_bytes + chunk_count(size_bytes) * OVERHEAD_BYTES


def opened_bytes(file_bytes: int, size_bytes: int) -> int:
    """Return the plain bytes that are there of an object of `size_bytes` whose file has come so far: whole chunks."""
    if file_bytes >= sealed_bytes(size_bytes):
        return size_bytes
    return max(0, file_bytes - HEADER_BYTES) // SEALED_CHUNK_BYTES * CHUNK_BYTES


def _derived(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(key)
