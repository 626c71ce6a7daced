"""Sealed objects: what was sealed comes back, and nothing that was changed, cut, moved or put elsewhere does."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from archipel.security.sealing import (
    CHUNK_BYTES,
    HEADER_BYTES,
    SEALED_CHUNK_BYTES,
    Sealing,
    chunk_place,
    opened_bytes,
    sealed_bytes,
)
from archipel.spec import SealError, digest_of

SEALING = Sealing(bytes(range(32)))
SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES)


def counted(size: int) -> bytes:
    return bytes(range(size))


def data_of(size: int, salt: int = 0) -> bytes:
    return hashlib.shake_128(f"{size} {salt}".encode()).digest(size)


def sealed(data: bytes, sealing: Sealing = SEALING) -> bytes:
    envelope = sealing.envelope(len(data))
    chunks = [data[begin : begin + CHUNK_BYTES] for begin in range(0, len(data), CHUNK_BYTES)] or [b""]
    return envelope.header(digest_of(data)) + b"".join(envelope.seal(n, chunk) for n, chunk in enumerate(chunks))


def opened(file: bytes, digest: str, sealing: Sealing = SEALING) -> bytes:
    envelope = sealing.opened(file[:HEADER_BYTES], digest)
    chunks = [
        envelope.open(n, file[chunk_place(n) : min(chunk_place(n + 1), len(file))]) for n in range(envelope.chunks)
    ]
    if len(file) != sealed_bytes(envelope.size_bytes):
        raise SealError("another length")
    return b"".join(chunks)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_comes_back(size: int) -> None:
    data = data_of(size)
    file = sealed(data)
    assert len(file) == sealed_bytes(size)
    assert opened(file, digest_of(data)) == data


def test_the_published_object_has_these_bytes() -> None:
    # Data key 00 01 … 1f, salt 00 01 … 1f, prefix 00 … 06, plain bytes "coral".
    file = sealed(b"coral", Sealing(bytes(range(32)), counted))
    assert file.hex() == PUBLISHED
    assert opened(bytes.fromhex(PUBLISHED), digest_of(b"coral")) == b"coral"


def test_the_published_object_follows_from_the_primitives() -> None:
    def derived(salt: bytes, info: bytes, length: int) -> bytes:
        return HKDF(hashes.SHA256(), length, salt, info).derive(bytes(range(32)))

    salt, keys = bytes(range(32)), derived(bytes(range(32)), b"archipel sealed object/1", 64)
    header = b"ARCHSL01" + derived(b"", b"archipel data key id/1", 8) + salt + (5).to_bytes(8, "little") + bytes(8)
    tag = hmac.digest(keys[32:], header + digest_of(b"coral").encode(), "sha256")
    nonce = bytes(range(7)) + bytes(4) + b"\1"
    chunk = bytes(range(7)) + AESGCM(keys[:32]).encrypt(nonce, b"coral", None)
    assert (header + tag + chunk).hex() == PUBLISHED


@given(data=st.binary(max_size=300), place=st.integers(0), bit=st.integers(0, 7))
@pytest.mark.attack("thief", "flip any bit of a sealed object", result="detected")
def test_a_flipped_bit_anywhere_is_found(data: bytes, place: int, bit: int) -> None:
    file = bytearray(sealed(data))
    file[place % len(file)] ^= 1 << bit
    with pytest.raises(SealError):
        opened(bytes(file), digest_of(data))


@given(place=st.integers(0), bit=st.integers(0, 7))
def test_a_flipped_bit_in_any_chunk_of_several_is_found(place: int, bit: int) -> None:
    file = bytearray(LONG)
    file[place % len(file)] ^= 1 << bit
    with pytest.raises(SealError):
        opened(bytes(file), digest_of(data_of(3 * CHUNK_BYTES)))


@pytest.mark.parametrize("chunks", [0, 1, 2])
@pytest.mark.attack("thief", "cut a sealed object", result="detected")
def test_an_object_cut_at_the_edge_of_a_chunk_is_found(chunks: int) -> None:
    with pytest.raises(SealError):
        opened(LONG[: chunk_place(chunks)], digest_of(data_of(3 * CHUNK_BYTES)))


@pytest.mark.attack("thief", "cut a sealed object", result="detected")
def test_a_shorter_object_made_of_the_first_chunks_does_not_open() -> None:
    # Whoever could also forge the header's size would meet the flag of the last chunk.
    data = data_of(3 * CHUNK_BYTES)
    envelope = SEALING.opened(LONG[:HEADER_BYTES], digest_of(data))
    envelope.size_bytes, envelope.chunks = 2 * CHUNK_BYTES, 2
    assert envelope.open(0, LONG[chunk_place(0) : chunk_place(1)]) == data[:CHUNK_BYTES]
    with pytest.raises(SealError):
        envelope.open(1, LONG[chunk_place(1) : chunk_place(2)])


@pytest.mark.attack("thief", "swap chunks of sealed objects", result="detected")
def test_chunks_stand_only_in_their_place_and_their_object() -> None:
    data, other = data_of(3 * CHUNK_BYTES), data_of(3 * CHUNK_BYTES, 1)
    first, second = bytearray(LONG), sealed(other)
    zero, one = slice(chunk_place(0), chunk_place(1)), slice(chunk_place(1), chunk_place(2))
    for forged in (
        first[: zero.start] + first[one] + first[zero] + first[one.stop :],  # swapped within
        first[: zero.start] + second[zero] + first[zero.stop :],  # taken from another object
        first[: zero.start] + sealed(data)[zero] + first[zero.stop :],  # of the same bytes, sealed another time
    ):
        with pytest.raises(SealError):
            opened(bytes(forged), digest_of(data))


@pytest.mark.attack("thief", "rename a sealed object", result="detected")
def test_an_object_under_the_name_of_another_does_not_open() -> None:
    with pytest.raises(SealError, match="another object's"):
        opened(sealed(b"coral"), digest_of(b"other"))


def test_another_key_is_named() -> None:
    with pytest.raises(SealError, match="sealed with another key"):
        opened(sealed(b"coral"), digest_of(b"coral"), Sealing(bytes(32)))


def test_the_same_bytes_are_never_sealed_alike() -> None:
    envelope = SEALING.envelope(5)
    assert envelope.seal(0, b"coral") != envelope.seal(0, b"coral"), "a chunk written again has a nonce of its own"
    assert sealed(b"coral")[16:48] != sealed(b"coral")[16:48], "an object has a salt of its own"


@given(size=st.integers(0, 4 * CHUNK_BYTES), came=st.integers(0, 4 * SEALED_CHUNK_BYTES + HEADER_BYTES))
def test_what_has_arrived_counts_by_whole_chunks(size: int, came: int) -> None:
    here = opened_bytes(came, size)
    assert here <= size
    assert (here == size) if came >= sealed_bytes(size) else here % CHUNK_BYTES == 0


LONG = sealed(data_of(3 * CHUNK_BYTES))
PUBLISHED = (
    "41524348534c3031db0e2f841cb83b81000102030405060708090a0b0c0d0e0f"
    "101112131415161718191a1b1c1d1e1f05000000000000000000000000000000"
    "b957c50fbb39d3462e1bc04f719aa1eb3991d90d0471ed4cadd4fabf75c98540"
    "00010203040506523892c118380fe102fe61171f427a074168561f2f"
)
