"""The Merkle tree of a log (RFC 6962, section 2.1): a leaf is never moved, a complete subtree never changes.

A `Place` (level, index) is the complete subtree over leaves index * 2^level to (index + 1) * 2^level - 1. A tree of n
leaves is the few complete subtrees of its binary digits, its peaks; seven leaves have three:

    level 2          (2,0)
    level 1     (1,0)     (1,1)     (1,2)
    level 0   0     1   2     3   4     5   6      peaks: (2,0) (1,2) (0,6)

Appending needs the peaks alone (log2 n hashes of 32 bytes) and completes one place a leaf on average beside the leaf's
own. Places are stored when they are complete and never again.

Example:
    >>> growth = grow(0, (), [b"a", b"b"])
    >>> sorted(growth.places)
    [(0, 0), (0, 1), (1, 0)]
    >>> root_of([b"a", b"b"]) == growth.root == growth.places[1, 0]
    True
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

Place = tuple[int, int]
"""(level, index) of a complete subtree."""
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of a log without entries."""
_LEAF, _NODE = b"\x00", b"\x01"


class Growth(msgspec.Struct, frozen=True):
    """What an append completes."""

    size: int
    """Leaves of the tree after it."""
    peaks: tuple[bytes, ...]
    """Hashes of its peaks, from the left."""
    places: dict[Place, bytes]
    """Every place that became complete, the leaves' own among them."""

    @property
    def root(self) -> bytes:
        """Root of the tree after it, 32 bytes."""
        return fold(self.peaks)


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of an entry: SHA-256 of 0x00 and its bytes."""
    return hashlib.sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256 of 0x01 and both children."""
    return hashlib.sha256(_NODE + left + right).digest()


def peaks(first: int, last: int) -> tuple[Place, ...]:
    """Return the complete subtrees of the leaves `first` to `last` - 1, from the left.

    `first` must be a multiple of the largest power of two below `last - first`, as all ranges of a proof are.
    """
    found: list[Place] = []
    while first < last:
        level = (last - first).bit_length() - 1
        found.append((level, first >> level))
        first += 1 << level
    return tuple(found)


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over peaks given from the left; of none, the root of an empty log."""
    if not hashes:
        return EMPTY_ROOT
    folded = hashes[-1]
    for left in reversed(hashes[:-1]):
        folded = node_hash(left, folded)
    return folded


def grow(size: int, standing: Sequence[bytes], leaves: Iterable[bytes]) -> Growth:
    """Append the entries `leaves` to a tree of `size` leaves whose peaks have the hashes `standing`."""
    hashes = list(standing)
    places: dict[Place, bytes] = {}
    for data in leaves:
        level, index, folded = 0, size, leaf_hash(data)
        places[level, index] = folded
        while index & 1:
            level, index, folded = level + 1, index >> 1, node_hash(hashes.pop(), folded)
            places[level, index] = folded
        hashes.append(folded)
        size += 1
    return Growth(size, tuple(hashes), places)


def is_whole(leaves: Iterable[bytes], places: Mapping[Place, bytes]) -> bool:
    """Are the stored places exactly those of a log with these entries? What was changed or left over shows."""
    return grow(0, (), leaves).places == dict(places)


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root of a log with these entries; memory is that of its peaks."""
    size: int = 0
    standing: tuple[bytes, ...] = ()
    for data in leaves:
        growth = grow(size, standing, (data,))
        size, standing = growth.size, growth.peaks
    return fold(standing)
