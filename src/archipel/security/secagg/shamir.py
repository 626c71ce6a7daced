"""Shamir's secret sharing over the prime field of 2^31 + 11: any `threshold` shares give the secret, fewer say nothing.

A secret of bytes is cut into chunks of 31 bits, most significant first, each the constant term of a random polynomial
of degree threshold - 1; the share of the holder at point x (1, 2, …) is the value of every polynomial there, four
bytes big-endian each. This is the format of google/federated-compute, whose published shares reconstruct here.

Shamir, How to share a secret, CACM 22(11), 1979. Arithmetic is numpy over uint64: a product of two elements stays
below 2^63.

Example:
    >>> shares = split(b"secret", holders=5, threshold=3, key=bytes(32))
    >>> join({1: shares[0], 4: shares[3], 5: shares[4]}, size=6)
    b'secret'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PRIME = 2**31 + 11
CHUNK_BITS = 31
ELEMENT_BYTES = 4
Elements = npt.NDArray[np.uint64]


def share_bytes(size: int) -> int:
    """Return the length in bytes of one share of a secret of `size` bytes."""
    return ELEMENT_BYTES * _chunks(size)


def split(secret: bytes, *, holders: int, threshold: int, key: bytes) -> list[bytes]:
    """Return one share for each of the holders at points 1 … `holders`.

    `key` (32 bytes) is secret and used for one secret only: the polynomials' coefficients are drawn from it.

    Raises:
        ValueError: the threshold is not between 1 and `holders`.
    """
    if not 1 <= threshold <= holders < PRIME:
        raise ValueError(f"threshold {threshold} of {holders} holders")
    constants = _elements(secret)
    drawn = uniform_elements(key, (threshold - 1) * constants.size).reshape(threshold - 1, constants.size)
    values = evaluate(np.concatenate([constants[np.newaxis], drawn]), range(1, holders + 1))
    return [row.astype(">u4").tobytes() for row in values]


def join(shares: Mapping[int, bytes], *, size: int) -> bytes:
    """Return the secret of `size` bytes from shares by point; give as many as the threshold, or more true ones.

    Raises:
        ValueError: a share has the wrong length, a point is no holder's, or no secret of this size fits.
    """
    points = sorted(shares)
    if not points or not all(0 < point < PRIME for point in points):
        raise ValueError("points of shares are 1, 2, …")
    values = np.stack([read_share(shares[point], size) for point in points])
    weights = np.array(weights_at(points, 0), np.uint64)[:, np.newaxis]
    return _bytes(np.sum(values * weights % PRIME, axis=0) % PRIME, size)


def read_share(share: bytes, size: int) -> Elements:
    """Return a share's field elements.

    Raises:
        ValueError: it has the wrong length for a secret of `size` bytes, or holds what is no field element.
    """
    if len(share) != share_bytes(size):
        raise ValueError(f"a share has {share_bytes(size)} bytes, not {len(share)}")
    values = np.frombuffer(share, ">u4").astype(np.uint64)
    if (values >= PRIME).any():
        raise ValueError("a share holds a number outside the field")
    return values


def evaluate(coefficients: Elements, points: Sequence[int], prime: int = PRIME) -> Elements:
    """Return the values at `points` of polynomials in columns, lowest coefficient first (Horner's rule).

    Shapes: coefficients (degree + 1, columns), result (points, columns).
    """
    at = np.array(points, np.uint64)[:, np.newaxis]
    values = np.zeros((len(points), coefficients.shape[1]), np.uint64)
    for row in coefficients[::-1]:
        values = (values * at + row) % prime
    return values


def weights_at(points: Sequence[int], target: int, prime: int = PRIME) -> list[int]:
    """Return Lagrange's weights: the value at `target` is the sum of weight times value at each of `points`.

    `target` is none of the points.
    """
    at = np.array(points, np.int64)
    below = ((target - at) % prime).astype(np.uint64)
    above = 1
    for place, other in enumerate(points):
        above = above * (target - other) % prime
        apart = ((at - other) % prime).astype(np.uint64)
        apart[place] = 1
        below = below * apart % prime
    return [above * pow(one, -1, prime) % prime for one in below.tolist()]


def uniform_elements(key: bytes, count: int) -> Elements:
    """Draw `count` uniform field elements from the AES-256-CTR stream of `key`, by rejection of 32-bit words."""
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    drawn = np.empty(0, np.uint64)
    while drawn.size < count:  # a word is below the prime with probability 1/2
        words = np.frombuffer(stream.update(bytes(16 * (count - drawn.size))), "<u4")
        drawn = np.concatenate([drawn, words[words < PRIME].astype(np.uint64)])
    return drawn[:count]


def _chunks(size: int) -> int:
    return -(-size * 8 // CHUNK_BITS)


def _elements(secret: bytes) -> Elements:
    number, count = int.from_bytes(secret, "big"), _chunks(len(secret))
    chunks = [number >> (CHUNK_BITS * place) & (2**CHUNK_BITS - 1) for place in reversed(range(count))]
    return np.array(chunks, np.uint64)


def _bytes(chunks: Elements, size: int) -> bytes:
    if (chunks >= 2**CHUNK_BITS).any():
        raise ValueError("the shares do not belong together")
    number = 0
    for chunk in chunks.tolist():
        number = number << CHUNK_BITS | chunk
    if number.bit_length() > 8 * size:
        raise ValueError("the shares do not belong together")
    return number.to_bytes(size, "big")
