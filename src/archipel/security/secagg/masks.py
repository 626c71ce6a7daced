"""Masks: AES-256-CTR streams read as little-endian 32-bit words, added to and taken from a vector modulo 2^32.

A mask is the stream of one derived key over zeros, counter from 0 (NIST SP 800-38A); word i belongs to place i. The
work goes in pieces that fit the cache: for each piece of the vector, every stream writes its words into the same small
buffer (`update_into`; `update` allocates, and is five times slower) and they are added in place.

Example:
    >>> import numpy as np
    >>> vector = np.arange(5, dtype=np.uint32)
    >>> apply_masks(vector, added=[bytes(32)], removed=[bytes(32)])
    >>> vector
    array([0, 1, 2, 3, 4], dtype=uint32)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from archipel.security.secagg.encoding import Levels

PIECE = 1 << 15
"""Words of a piece: 128 KiB, and as much again for the zeros and the words."""
_WORD_BYTES = 4


def apply_masks(vector: Levels, *, added: Iterable[bytes], removed: Iterable[bytes]) -> None:
    """Add to `vector` (uint32, little-endian, changed in place) the masks of some keys and take those of others."""
    plus, minus = [_stream(key) for key in added], [_stream(key) for key in removed]
    size = min(PIECE, vector.size)
    zeros, words = memoryview(bytes(_WORD_BYTES * size)), np.empty(size, np.dtype("<u4"))
    raw = words.data.cast("B")
    for begin in range(0, vector.size, PIECE):
        piece = vector[begin : begin + PIECE]
        length = _WORD_BYTES * piece.size
        for stream in plus:
            stream.update_into(zeros[:length], raw[:length])
            np.add(piece, words[: piece.size], out=piece)
        for stream in minus:
            stream.update_into(zeros[:length], raw[:length])
            np.subtract(piece, words[: piece.size], out=piece)


def _stream(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
