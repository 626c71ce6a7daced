"""Masks and derived keys: a published stream, and what is added and taken away is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from archipel.security.secagg import masks
from archipel.security.secagg.derivation import Label, bind, derive, hash_of
from archipel.security.secagg.masks import PIECE, apply_masks

KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")


@pytest.fixture(params=[False, True], ids=["CTR", "GCM"], autouse=True)
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute as a processor would on which this is the faster."""
    monkeypatch.setattr(masks, "_is_gcm_faster", lambda: request.param)


def test_a_mask_is_the_counter_stream_of_nist() -> None:
    """SP 800-38A F.5.5: the key's block at that counter, from plain text and cipher text of the first block."""
    plain, text = "6bc1bee22e409f96e93d7e117393172a", "601ec313775789a5b7a7f504bbf3d228"
    counter = int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16)
    stream = Cipher(algorithms.AES256(KEY), modes.CTR(counter.to_bytes(16, "big"))).encryptor()
    assert stream.update(bytes.fromhex(plain)).hex() == text
    # The mask itself counts from zero: block i of it is AES(key, i), as the block cipher alone says.
    blocks = Cipher(algorithms.AES256(KEY), modes.ECB()).encryptor()
    expected = b"".join(blocks.update(place.to_bytes(16, "big")) for place in range(3))
    vector = np.zeros(12, np.uint32)
    apply_masks(vector, added=[KEY], removed=[])
    assert vector.astype("<u4").tobytes() == expected


@pytest.mark.parametrize("size", [1, 7, 8, 9, PIECE - 1, PIECE + 7, PIECE + 8, PIECE + 9, 2 * PIECE + 3])
def test_a_mask_runs_on_over_the_pieces_of_a_vector(size: int) -> None:
    stream = Cipher(algorithms.AES256(KEY), modes.CTR(bytes(16))).encryptor()
    words = np.frombuffer(stream.update(bytes(4 * size)), "<u4")
    vector = np.full(size, 7, np.uint32)
    apply_masks(vector, added=[KEY], removed=[])
    assert (vector == words + np.uint32(7)).all()
    apply_masks(vector, added=[], removed=[KEY])
    assert (vector == 7).all()


@given(
    values=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40),
    keys=st.lists(st.binary(min_size=32, max_size=32), max_size=4),
)
def test_masks_that_are_added_and_taken_away_are_nothing(values, keys) -> None:
    vector = np.array(values, np.uint32)
    apply_masks(vector, added=keys, removed=keys[::-1])
    assert vector.tolist() == values


def test_keys_differ_by_label_session_and_names() -> None:
    keys = {
        derive(KEY, bytes(32), Label.SELF_MASK, "a"),
        derive(KEY, bytes(32), Label.PAIR_MASK, "a"),
        derive(KEY, b"\x01" * 32, Label.SELF_MASK, "a"),
        derive(KEY, bytes(32), Label.SELF_MASK, "b"),
        derive(KEY, bytes(32), Label.SELF_MASK, "a", ""),
        hash_of(bytes(32), Label.SELF_MASK, "a"),
    }
    assert len(keys) == 6
    assert len(set(Label)) == len(Label)


@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.binary(max_size=6), max_size=5))
def test_different_parts_never_bind_to_the_same_bytes(first, second) -> None:
    assert (bind(*first) == bind(*second)) == (first == second)
