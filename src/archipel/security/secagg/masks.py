"""Masks: AES-256-CTR streams read as little-endian 32-bit words, added to and taken from a vector modulo 2^32.

A mask is the stream of one derived key over zeros, counter from 0 (NIST SP 800-38A); word i belongs to place i. The
work goes in pieces that fit the cache: for each piece of the vector, every stream writes its words into the same small
buffer (`update_into`; `update` allocates, and is five times slower) and they are added in place.

GCM encrypts with the same stream, from its third block on if the nonce is zero (SP 800-38D, section 7.1). OpenSSL 4.0
computes it with wide vectors where the processor has VAES and AVX-512, and CTR never: 10 GB/s, tag and all, for 8. On
a processor without them GCM takes 2.6 times as long as CTR. So each process looks once which is the faster.

Example:
    >>> import numpy as np
    >>> vector = np.arange(5, dtype=np.uint32)
    >>> apply_masks(vector, added=[bytes(32)], removed=[bytes(32)])
    >>> vector
    array([0, 1, 2, 3, 4], dtype=uint32)
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from archipel.security.secagg.encoding import Levels

PIECE = 1 << 15
"""Words of a piece: 128 KiB, and as much again for the zeros and the words."""
_WORD_BYTES = 4
_HEAD = 8
"""Words before the third block, where the stream of GCM sets in."""
_TRIES = 3


def apply_masks(vector: Levels, *, added: Iterable[bytes], removed: Iterable[bytes]) -> None:
    """Add to `vector` (uint32, little-endian, changed in place) the masks of some keys and take those of others."""
    keys = list(added), list(removed)
    begin = min(vector.size, _HEAD) if _is_gcm_faster() else vector.size
    _apply(vector[:begin], *([_counter(key) for key in some] for some in keys))
    if begin < vector.size:
        _apply(vector[begin:], *([_galois(key) for key in some] for some in keys))


def _apply(vector: Levels, plus: list[CipherContext], minus: list[CipherContext]) -> None:
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


def _counter(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()


def _galois(key: bytes) -> CipherContext:
    """Return the stream without its first two blocks."""
    return Cipher(algorithms.AES256(key), modes.GCM(bytes(12))).encryptor()


@cache
def _is_gcm_faster() -> bool:
    """Compare both on this processor; takes 0.2 ms, once in a process."""
    zeros, words = bytes(_WORD_BYTES * PIECE), bytearray(_WORD_BYTES * PIECE)

    def seconds(stream: CipherContext) -> float:
        begin = time.perf_counter()
        stream.update_into(zeros, words)
        return time.perf_counter() - begin

    ctr, gcm = _counter(bytes(32)), _galois(bytes(32))
    return min(seconds(gcm) for _ in range(_TRIES)) < min(seconds(ctr) for _ in range(_TRIES))
