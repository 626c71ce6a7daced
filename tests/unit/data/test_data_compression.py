"""Codecs: numbers worked by hand, the laws every one keeps, and what a site that lies may not get through."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from archipel.data.compression.choice import codec, codec_of
from archipel.data.compression.levels import BLOCK
from archipel.data.compression.low_rank import LowRank
from archipel.data.compression.port import decoded, taker
from archipel.data.compression.quantised import Quantised
from archipel.data.compression.top_k import SPAN, TopK
from archipel.spec import Manifest, NonFiniteError, ShapeError, SpecError, manifest_of, pack, parse_header
from archipel.spec.compression import CompressionSpec

CODECS = [Quantised(8), Quantised(4), TopK(0.1), TopK(1.0), TopK(0.5, 4), LowRank(2)]
NAMES = ["int8", "int4", "top-k", "top-k of all", "top-k of four bits", "low-rank"]
TOPS = {"int8": 127, "int4": 7}
every_codec = pytest.mark.parametrize("made", CODECS, ids=NAMES)
vectors = arrays(np.float32, st.integers(1, 3 * BLOCK), elements=st.floats(-1e6, 1e6, width=32))


def flat(count: int, dtype: type = np.float32) -> Manifest:
    return manifest_of([("w", (count,), np.dtype(dtype))])


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(count: int, seed: int = 0) -> np.ndarray:
    return chance(seed).standard_normal(count).astype(np.float32)


def layers() -> Manifest:
    """A model of two matrices, one of them too small to be split, and a bias."""
    shapes = [("in.weight", (30, 5, 4)), ("in.bias", (30,)), ("out.weight", (2, 2))]
    return manifest_of((name, shape, np.dtype(np.float32)) for name, shape in shapes)


# ---- by hand --------------------------------------------------------------------------------------------------------


def test_a_level_is_the_number_in_steps_of_the_scale_and_whole_steps_stay_what_they_are():
    vector = np.array([127.0, -127.0, 3.0, 0.0, -64.0], np.float32)
    tensors = Quantised(8).encode(vector, flat(5), chance())
    assert tensors["scales"].tolist() == [1.0]
    assert tensors["levels"].tolist() == [254, 0, 130, 127, 63]
    assert decoded(Quantised(8), tensors, flat(5), vector).tolist() == vector.tolist()


def test_two_levels_of_four_bits_share_a_byte_the_first_in_the_lower_half():
    vector = np.array([7.0, -7.0, 1.0], np.float32)
    tensors = Quantised(4).encode(vector, flat(3), chance())
    assert tensors["levels"].tolist() == [14 + (0 << 4), 8]
    assert decoded(Quantised(4), tensors, flat(3), vector).tolist() == [7.0, -7.0, 1.0]


def test_each_block_has_a_scale_of_its_own():
    vector = np.concatenate([np.full(BLOCK, 127, np.float32), np.full(1, 0.127, np.float32)])
    assert Quantised(8).encode(vector, flat(BLOCK + 1), chance())["scales"] == pytest.approx([1.0, 0.001])


def test_the_largest_are_sent_of_equal_ones_the_first_and_the_others_are_nothing():
    vector = np.array([1.0, -8.0, 3.0, -3.0, 0.0, 3.0], np.float32)
    tensors = TopK(0.5).encode(vector, flat(6), chance())
    assert tensors["bits"].tolist() == [0b01110000]
    assert tensors["starts"].tolist() == [0, 3]
    back = decoded(TopK(0.5), tensors, flat(6), vector)
    assert (back != 0).tolist() == [False, True, True, True, False, False]
    assert back[1] == pytest.approx(-8.0)


def test_a_matrix_of_low_rank_comes_back_and_a_bias_is_sent_whole():
    one, two = np.outer(np.arange(1, 31), np.arange(1, 21)), np.outer(np.ones(30), np.arange(20) % 3)
    vector = np.concatenate([(one + two).ravel(), np.arange(34)]).astype(np.float32)
    tensors = LowRank(2).encode(vector, layers(), chance())
    assert {name: part.shape for name, part in tensors.items()} == {
        "left/in.weight": (30, 2),
        "right/in.weight": (20, 2),
        "whole/in.bias": (30,),
        "whole/out.weight": (2, 2),
    }
    assert decoded(LowRank(2), tensors, layers(), vector) == pytest.approx(vector, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(("name", "share"), [("int8", 0.251), ("int4", 0.126), ("top-k", 0.0565)])
def test_how_much_is_left_of_a_million_float32(name, share):
    made = codec(CompressionSpec(), name)
    assert made is not None
    assert made.layout(flat(1_000_000)).size_bytes / 4_000_000 == pytest.approx(share, rel=0.01)


def test_the_largest_half_in_four_bits_takes_no_more_than_the_largest_quarter_in_eight():
    sizes = [TopK(*chosen).layout(flat(1_000_000)).size_bytes / 4_000_000 for chosen in ((0.5, 4), (0.25, 8))]
    assert sizes == pytest.approx([0.0942, 0.0940], abs=0.0005)


# ---- laws -----------------------------------------------------------------------------------------------------------


@every_codec
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_written_lies_as_the_layout_says_and_the_same_stream_writes_the_same(made, dtype):
    model = manifest_of((tensor.name, tensor.shape, np.dtype(dtype)) for tensor in layers().tensors)
    vector = normal(634).astype(dtype)
    written = pack(made.encode(vector, model, chance(7)))
    assert parse_header(written)[0] == made.layout(model)
    assert pack(made.encode(vector, model, chance(7))) == written
    back = np.empty(634, np.float64 if dtype == np.float64 else np.float32)
    made.decode(taker(made.encode(vector, model, chance(7))), model, 0, back)
    assert np.isfinite(back).all()


@every_codec
@given(data=st.data())
def test_any_columns_decode_to_what_they_are_in_the_whole(made, data):
    count = data.draw(st.sampled_from([1, 7, BLOCK + 1, SPAN - 1, SPAN, 2 * SPAN + 9]))
    model, vector = flat(count), normal(count)
    if made.name == "low-rank":
        model, vector = layers(), normal(634)
    tensors = made.encode(vector, model, chance())
    whole = decoded(made, tensors, model, vector)
    start = data.draw(st.integers(0, vector.size - 1))
    part = np.full(data.draw(st.integers(1, vector.size - start)), np.nan, np.float32)
    made.decode(taker(tensors), model, start, part)
    assert part.tobytes() == whole[start : start + part.size].tobytes()


@pytest.mark.parametrize("made", CODECS[:2], ids=NAMES[:2])
@given(vector=vectors)
def test_rounding_is_off_by_less_than_a_step(made, vector):
    back = decoded(made, made.encode(vector, flat(vector.size), chance()), flat(vector.size), vector)
    for start in range(0, vector.size, BLOCK):
        block = slice(start, start + BLOCK)
        step = float(np.abs(vector[block]).max()) / TOPS[made.name]
        assert np.abs(back[block].astype(float) - vector[block]).max() <= step * (1 + 1e-6)


@pytest.mark.parametrize("made", CODECS[:2], ids=NAMES[:2])
def test_the_mean_of_many_roundings_is_the_number(made):
    vector, draws = normal(200), 2000
    total = np.zeros(200)
    for seed in range(draws):
        total += decoded(made, made.encode(vector, flat(200), chance(seed)), flat(200), vector)
    step = float(np.abs(vector).max()) / TOPS[made.name]
    # A rounding's deviation is half a step at the most, and five deviations of a mean are not passed by chance.
    assert np.abs(total / draws - vector).max() < 5 * step / 2 / math.sqrt(draws)


@given(vector=vectors, fraction=st.floats(0.01, 1))
def test_nothing_that_is_sent_is_smaller_than_what_is_not(vector, fraction):
    made, model = TopK(fraction), flat(vector.size)
    tensors = made.encode(vector, model, chance())
    sent = np.unpackbits(tensors["bits"])[: vector.size].astype(bool)
    assert sent.sum() == made.kept(vector.size)
    if not sent.all():
        assert np.abs(vector[sent]).min() >= np.abs(vector[~sent]).max()


def test_two_factors_lose_less_than_all_there_is():
    vector = normal(634)
    back = decoded(LowRank(2), LowRank(2).encode(vector, layers(), chance()), layers(), vector)
    assert np.linalg.norm(vector - back) < 0.95 * np.linalg.norm(vector)


def test_nothing_at_all_and_what_no_float32_holds():
    nothing = np.zeros(10, np.float32)
    for made in CODECS[:4]:
        assert not decoded(made, made.encode(nothing, flat(10), chance()), flat(10), nothing).any()
    for made in CODECS:
        model = layers() if made.name == "low-rank" else flat(634, np.float64)
        with pytest.raises(NonFiniteError):
            made.encode(np.full(634, 1e300), model, chance())


def test_a_share_of_a_hundred_is_not_rounded_up_by_a_last_bit():
    assert [TopK(0.07).kept(count) for count in (100, 101, 1)] == [7, 8, 1]


# ---- lies -----------------------------------------------------------------------------------------------------------


def spoilt(made, change):
    tensors = {name: part.copy() for name, part in made.encode(normal(3000), flat(3000), chance()).items()}
    change(tensors)
    return tensors


def set_(name, place, value):
    return lambda tensors: tensors[name].reshape(-1).__setitem__(place, value)


LIES = {
    "a level beyond the highest": (Quantised(8), set_("levels", 2999, 255), ShapeError),
    "four bits beyond the highest": (Quantised(4), set_("levels", 0, 0xF0), ShapeError),
    "an infinite scale": (Quantised(8), set_("scales", 2, np.inf), NonFiniteError),
    "a scale that is no number": (Quantised(4), set_("scales", 0, np.nan), NonFiniteError),
    "a scale below zero": (Quantised(8), set_("scales", 1, -1.0), ShapeError),
    "a scale whose steps overflow": (Quantised(8), set_("scales", 1, 3e38), NonFiniteError),
    "a column more than there are values": (TopK(0.1), set_("bits", slice(0, 100), 255), ShapeError),
    "a column less": (TopK(0.1), set_("bits", slice(0, 100), 0), ShapeError),
    "bits beyond the last column": (TopK(0.001), set_("bits", 374, 255), ShapeError),
    "a first start that is not the first": (TopK(0.1), set_("starts", 0, 1), ShapeError),
    "an end before the last value": (TopK(0.1), set_("starts", 1, 299), ShapeError),
    "an end beyond the last value": (TopK(0.1), set_("starts", 1, 2**32 - 1), ShapeError),
    "a level among the largest beyond the highest": (TopK(0.1), set_("levels", 299, 255), ShapeError),
    "four bits among the largest beyond the highest": (TopK(0.1, 4), set_("levels", 149, 0xF0), ShapeError),
    "an infinite scale of the largest": (TopK(0.1), set_("scales", 0, np.inf), NonFiniteError),
    "a whole tensor with NaN": (LowRank(2), set_("whole/w", 5, np.nan), NonFiniteError),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_no_codec_writes_is_refused(lie):
    made, change, error = LIES[lie]
    tensors = spoilt(made, change)
    with pytest.raises(error):
        decoded(made, tensors, flat(3000), normal(3000))


@pytest.mark.parametrize("factor", ["left/in.weight", "right/in.weight"])
def test_a_factor_with_infinity_is_refused(factor):
    tensors = LowRank(2).encode(normal(634), layers(), chance())
    tensors[factor][3, 1] = np.inf
    with pytest.raises(NonFiniteError):
        decoded(LowRank(2), tensors, layers(), normal(634))


# ---- who has which --------------------------------------------------------------------------------------------------


def test_a_site_has_the_kind_that_is_written_beside_its_name():
    spec = CompressionSpec(kind="int8", sites={"ann": "top-k", "bob": "none"})
    found = {site: codec_of(spec, site) for site in ("ann", "bob", "cid")}
    assert {site: made and made.name for site, made in found.items()} == {"ann": "top-k", "bob": None, "cid": "int8"}
    assert codec_of(None, "ann") is None


def test_what_is_left_to_the_plan_is_no_kind_and_the_error_says_who_picks():
    spec = CompressionSpec(kind="auto", sites={"ann": "int4"})
    made = codec_of(spec, "ann")
    assert made is not None
    assert made.name == "int4"
    with pytest.raises(SpecError, match="auto") as caught:
        codec_of(spec, "bob")
    assert "--what-if" in caught.value.hint
