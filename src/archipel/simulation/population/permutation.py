"""A permutation of 0 … n-1 of which any place can be asked, without laying it out: a Feistel network.

    Permutation(1_000_000, seed)(17)

Each half of the number's bits is mixed with a hash of the other in turn (Luby and Rackoff 1988, "How to construct
pseudorandom permutations from pseudorandom functions", four rounds); numbers that fall outside 0 … n-1 are permuted
again until they fall inside (cycle walking: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", sec. 3).
"""

from __future__ import annotations

import numpy as np

ROUNDS = 4
_WORD = (1 << 64) - 1


class Permutation:
    """One permutation, made by a seed."""

    def __init__(self, count: int, seed: tuple[int, ...]) -> None:
        self._count = count
        self._half = max(1, ((count - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        self._keys = np.random.SeedSequence(seed).generate_state(ROUNDS, np.uint64).tolist()

    def __call__(self, place: int) -> int:
        """Return the number at a place."""
        value = self._once(place)
        while value >= self._count:
            value = self._once(value)
        return value

    def _once(self, value: int) -> int:
        left, right = value >> self._half, value & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & self._mask)
        return left << self._half | right


def _mix(value: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators")."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _WORD
    return value ^ (value >> 31)
