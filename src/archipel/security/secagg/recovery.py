"""Putting a secret together from released shares, some of which may be untrue.

Every secret has something it can be held against (a commitment, or its public key), so a right answer is recognised.
With as many spare shares as liars, some choice of shares has no liar in it; who lied is named by the polynomial.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from archipel.security.secagg.shamir import PRIME, join, read_share, weights_at

MOST_TRIES = 2000
"""Choices of shares that are tried for one secret."""


class Recovered(NamedTuple):
    """A secret, and the points of shares that are not of its polynomials."""

    secret: bytes
    untrue: tuple[int, ...]


def recover(
    shares: Mapping[int, bytes], *, threshold: int, size: int, accept: Callable[[bytes], bool]
) -> Recovered | None:
    """Return the secret of `size` bytes that `accept` takes, from shares by point; None: there is none to be found.

    Where the first choice is right, the other shares are not looked at.
    """
    for chosen in itertools.islice(_choices(sorted(shares), threshold), MOST_TRIES):
        try:
            secret = join({point: shares[point] for point in chosen}, size=size)
        except ValueError:
            continue
        if accept(secret):
            first = chosen == tuple(sorted(shares)[:threshold])
            return Recovered(secret, () if first else _untrue(shares, chosen, size))
    return None


def _choices(points: list[int], threshold: int) -> Iterator[tuple[int, ...]]:
    """Yield choices of points: all of them where they are few, else runs around the circle, which a few liars miss."""
    if len(points) < threshold:
        return
    if math.comb(len(points), threshold) <= MOST_TRIES:
        yield from itertools.combinations(points, threshold)
        return
    for begin in range(len(points)):
        yield tuple(sorted((points + points)[begin : begin + threshold]))


def _untrue(shares: Mapping[int, bytes], chosen: tuple[int, ...], size: int) -> tuple[int, ...]:
    true = np.stack([read_share(shares[point], size) for point in chosen])
    wrong = []
    for point in sorted(shares.keys() - set(chosen)):
        weights = np.array(weights_at(chosen, point), np.uint64)[:, np.newaxis]
        expected = np.sum(true * weights % PRIME, axis=0) % PRIME
        if expected.astype(">u4").tobytes() != shares[point]:
            wrong.append(point)
    return tuple(wrong)
