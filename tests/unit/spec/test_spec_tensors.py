"""Tensor files: written and read back, readable by the reference library, and every deviation refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archipel.spec import (
    NonFiniteError,
    ShapeError,
    SpecError,
    header_bytes,
    manifest_of,
    pack,
    parse_header,
    require_finite,
    unpack,
)
from archipel.spec.tensors import views

DTYPES = st.sampled_from(["<f8", "<f4", "<f2", "<i8", "<i4", "<u4", "u1", "?"])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__")


@given(st.dictionaries(NAMES, ARRAYS, max_size=5))
def test_what_is_packed_comes_back(arrays) -> None:
    back = unpack(pack(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), ARRAYS, min_size=1, max_size=5))
def test_the_reference_library_reads_our_bytes(arrays) -> None:
    for name, array in safetensors.numpy.load(pack(arrays)).items():
        np.testing.assert_array_equal(array, arrays[name])


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), ARRAYS, min_size=1, max_size=5))
def test_we_read_the_reference_librarys_bytes(arrays) -> None:
    for name, array in unpack(safetensors.numpy.save(arrays)).items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize("kind", [">f8", ">f4", ">i8", "<f4", "?"])
def test_bytes_are_little_endian_whatever_the_order_they_came_in(kind: str) -> None:
    given_values = np.array([[1, 0], [1, 1]]).astype(kind)
    assert unpack(pack({"w": given_values}))["w"].tolist() == given_values.tolist()


def test_offsets_follow_each_other_and_the_buffer_is_aligned() -> None:
    manifest = manifest_of([("a", (2, 3), np.dtype("f4")), ("b", (5,), np.dtype("f8"))])
    assert [(tensor.offset, tensor.size_bytes) for tensor in manifest.tensors] == [(0, 24), (24, 40)]
    assert manifest.size_bytes == 64
    assert len(header_bytes(manifest)) % 64 == 0
    assert parse_header(header_bytes(manifest)) == (manifest, len(header_bytes(manifest)))


def test_views_share_memory_with_the_buffer() -> None:
    manifest = manifest_of([("a", (2,), np.dtype("f4")), ("b", (1,), np.dtype("f4"))])
    flat = np.zeros(3, np.float32)
    views(flat, manifest)["b"][0] = 7
    assert flat.tolist() == [0, 0, 7]


def test_a_mixed_buffer_cannot_be_averaged() -> None:
    manifest = manifest_of([("a", (2,), np.dtype("f4")), ("b", (1,), np.dtype("f8"))])
    with pytest.raises(ShapeError, match="one dtype"):
        manifest.uniform_dtype()


def test_a_dtype_without_a_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ShapeError, match="complex128") as caught:
        manifest_of([("a", (2,), np.dtype("c16"))])
    assert "F32" in caught.value.hint


def _file(header: str, buffer: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header.encode() + buffer


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("cut header", pack({"w": np.zeros(3)})[:20]),
        ("cut buffer", pack({"w": np.zeros(3)})[:-1]),
        ("extra bytes", pack({"w": np.zeros(3)}) + b"x"),
        ("header too long", (2**62).to_bytes(8, "little") + b"{}"),
        ("not JSON", _file("{nope")),
        ("not an object", _file("[1]")),
        ("nested too deep", _file("[" * 200_000)),
        ("repeated key", _file(f'{{"w":{json.dumps(ENTRY)},"w":{json.dumps(ENTRY)}}}', bytes(4))),
        ("unknown dtype", _file(json.dumps({"w": {**ENTRY, "dtype": "Q8"}}), bytes(4))),
        ("negative side", _file(json.dumps({"w": {**ENTRY, "shape": [-1]}}), bytes(4))),
        ("shape disagrees", _file(json.dumps({"w": {**ENTRY, "shape": [2]}}), bytes(4))),
        ("gap", _file(json.dumps({"w": {**ENTRY, "data_offsets": [4, 8]}}), bytes(8))),
        ("overlap", _file(json.dumps({"v": ENTRY, "w": ENTRY}), bytes(4))),
        ("no offsets", _file(json.dumps({"w": {"dtype": "F32", "shape": [1]}}), bytes(4))),
        ("offsets not a pair", _file(json.dumps({"w": {**ENTRY, "data_offsets": [0]}}), bytes(4))),
    ],
)
def test_a_damaged_file_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(SpecError, match=r"not a tensor file|gap or overlaps"):
        unpack(data)


@given(st.binary(max_size=200))
def test_random_bytes_never_crash_the_reader(data: bytes) -> None:
    try:
        unpack(data)
    except SpecError:
        return
    assert len(data) >= 10


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_named(bad: float, dtype: type[np.floating]) -> None:
    array = np.ones(1000, dtype)
    require_finite("ok", array)
    array[777] = bad
    with pytest.raises(NonFiniteError, match="update of site-a"):
        require_finite("update of site-a", array)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_large_finite_numbers_pass_though_their_sum_overflows(dtype: type[np.floating]) -> None:
    require_finite("large", np.full(10, np.finfo(dtype).max))
