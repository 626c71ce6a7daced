"""Proofs over a log's tree (RFC 6962, section 2.1; verified as in RFC 9162, sections 2.1.3.2 and 2.1.4.2).

A proof is a path of hashes of ranges of leaves. Which ranges is a pure question of numbers (`*_ranges`), so a store
fetches all their peaks at once and `fold_ranges` makes the path: at most 2 * log2(n) ranges, one of them incomplete.

Example:
    >>> from archipel.security.audit.tree import grow
    >>> tree = grow(0, (), [b"a", b"b", b"c"])
    >>> path = fold_ranges(inclusion_ranges(2, 3), tree.places)
    >>> is_included(b"c", 2, 3, path, tree.root)
    True
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from archipel.security.audit.tree import EMPTY_ROOT, Place, fold, leaf_hash, node_hash, peaks

Range = tuple[int, int]
"""Leaves from the first number up to, not with, the second."""


def inclusion_ranges(index: int, size: int) -> tuple[Range, ...]:
    """Return what the audit path of leaf `index` in a tree of `size` leaves consists of, from the leaf up."""
    return tuple(_path(index, 0, size))


def consistency_ranges(old: int, new: int) -> tuple[Range, ...]:
    """Return what the proof that a tree of `new` leaves goes on from one of `old` consists of, in its order."""
    return () if old in {0, new} else tuple(_subproof(old, 0, new, whole=True))


def fold_ranges(ranges: Sequence[Range], places: Mapping[Place, bytes]) -> tuple[bytes, ...]:
    """Return the hash of each range, from the hashes of their peaks."""
    return tuple(fold([places[place] for place in peaks(*each)]) for each in ranges)


def is_included(data: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Is `data` entry `index` of the log of `size` entries with this root?"""
    if not 0 <= index < size:
        return False
    here, last, found = index, size - 1, leaf_hash(data)
    for step in path:
        if last == 0:
            return False
        if here & 1 or here == last:
            found = node_hash(step, found)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            found = node_hash(found, step)
        here, last = here >> 1, last >> 1
    return last == 0 and hmac.compare_digest(found, root)


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Does the log of `new` entries begin with all of the log of `old` entries, by this proof?"""
    if old in {0, new}:
        same = old_root == (EMPTY_ROOT if old == 0 else new_root)
        return same and not path and 0 <= old <= new
    if not 0 < old < new or not path:
        return False
    steps = list(path) if old & (old - 1) else [old_root, *path]
    here, last = old - 1, new - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            after = node_hash(after, step)
        here, last = here >> 1, last >> 1
    return last == 0 and hmac.compare_digest(before, old_root) and hmac.compare_digest(after, new_root)


def _split(first: int, last: int) -> int:
    """Return where a range is divided: after the largest power of two of leaves that is less than all."""
    return first + (1 << (last - first - 1).bit_length() - 1)


def _path(index: int, first: int, last: int) -> list[Range]:
    """PATH(m, D[n]) of RFC 6962, section 2.1.1, as ranges."""
    if last - first == 1:
        return []
    middle = _split(first, last)
    if index < middle:
        return [*_path(index, first, middle), (middle, last)]
    return [*_path(index, middle, last), (first, middle)]


def _subproof(old: int, first: int, last: int, *, whole: bool) -> list[Range]:
    """SUBPROOF(m, D[n], b) of RFC 6962, section 2.1.2, as ranges; `old` counts from leaf 0."""
    if old == last:
        return [] if whole else [(first, last)]
    middle = _split(first, last)
    if old <= middle:
        return [*_subproof(old, first, middle, whole=whole), (middle, last)]
    return [*_subproof(old, middle, last, whole=False), (first, middle)]
