"""Trees and proofs of an audit log: the published roots, every small tree by the definition, laws, and false proofs."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.security.audit import (
    EMPTY_ROOT,
    consistency_ranges,
    fold,
    fold_ranges,
    grow,
    inclusion_ranges,
    is_consistent,
    is_included,
    is_whole,
    peaks,
    root_of,
)

PUBLISHED = {
    # Leaves and roots of certificate transparency's own tests; the root after each leaf.
    "": "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "00": "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "10": "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "2021": "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "3031": "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "40414243": "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "5051525354555657": "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "606162636465666768696a6b6c6d6e6f": "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
LEAVES = [bytes([number]) for number in range(17)]
TREE = grow(0, (), LEAVES).places


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    return hashlib.sha256(b"\x01" + by_definition(leaves[:middle]) + by_definition(leaves[middle:])).digest()


def test_the_roots_are_the_published_ones() -> None:
    leaves: list[bytes] = []
    for leaf, root in PUBLISHED.items():
        leaves.append(bytes.fromhex(leaf))
        assert root_of(leaves).hex() == root


@pytest.mark.parametrize("size", range(17))
def test_a_root_is_the_one_of_the_definition(size: int) -> None:
    assert root_of(LEAVES[:size]) == by_definition(LEAVES[:size])
    assert fold([TREE[place] for place in peaks(0, size)]) == by_definition(LEAVES[:size])


@pytest.mark.parametrize("size", range(1, 18))
def test_every_entry_has_a_proof_that_fits_nothing_else(size: int) -> None:
    root = by_definition(LEAVES[:size])
    for index in range(size):
        path = fold_ranges(inclusion_ranges(index, size), TREE)
        assert is_included(LEAVES[index], index, size, path, root)
        assert not is_included(b"other", index, size, path, root)
        assert not is_included(LEAVES[index], index, size, [*path, EMPTY_ROOT], root)
        assert not is_included(LEAVES[index], index, size, path, EMPTY_ROOT)
        assert not any(
            is_included(LEAVES[index], other, size, path, root) for other in range(-1, size + 1) if other != index
        )


@pytest.mark.parametrize("new", range(18))
def test_every_tree_goes_on_from_every_smaller_one(new: int) -> None:
    root = by_definition(LEAVES[:new])
    for old in range(new + 1):
        before = by_definition(LEAVES[:old])
        path = fold_ranges(consistency_ranges(old, new), TREE)
        assert is_consistent(old, before, new, root, path)
        changed = by_definition([b"other", *LEAVES[1:old]])
        assert old == 0 or not is_consistent(old, changed, new, root, path)
        assert old == 0 or not is_consistent(old, before, new, EMPTY_ROOT, path)
        assert not is_consistent(old, before, new, root, [*path, EMPTY_ROOT])


@settings(max_examples=40, deadline=None)
@given(
    leaves=st.lists(st.binary(max_size=4), min_size=2, max_size=70),
    cut=st.integers(0, 70),
    which=st.integers(0, 69),
    flip=st.integers(0, 255),
)
def test_growing_in_pieces_gives_the_same_tree_and_a_broken_proof_is_refused(
    leaves: list[bytes], cut: int, which: int, flip: int
) -> None:
    first = grow(0, (), leaves[:cut])
    second = grow(first.size, first.peaks, leaves[cut:])
    places = first.places | second.places
    assert second.root == root_of(leaves) == by_definition(leaves)
    assert is_whole(leaves, places)
    path = fold_ranges(inclusion_ranges(which % len(leaves), len(leaves)), places)
    bent = bytearray(path[flip % len(path)])
    bent[flip % 32] ^= 1 + flip % 255
    broken = [*path]
    broken[flip % len(path)] = bytes(bent)
    assert not is_included(leaves[which % len(leaves)], which % len(leaves), len(leaves), broken, second.root)


def test_a_proof_in_a_log_of_a_million_entries_has_at_most_twenty_hashes() -> None:
    assert max(len(inclusion_ranges(index, 10**6)) for index in range(0, 10**6, 997)) == 20
