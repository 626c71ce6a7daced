"""Clipping and noise: what leaves is bounded, the noise is Gaussian, and its floats say nothing of the sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.security.privacy import (
    NoiseStream,
    clipped,
    fresh_secret,
    kept_secret,
    next_clip,
    norm_of,
    require_private_fit,
    run_secret,
    seeded_secret,
    update_noise,
)
from archipel.security.privacy.noise import grid_of
from archipel.spec import SpecError
from archipel.spec.job import job_from
from archipel.spec.privacy import AdaptiveClip, CentralPrivacy

SECRET = seeded_secret(1)


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50),
    st.floats(1e-3, 1e3),
    st.sampled_from([np.float32, np.float64]),
)
def test_what_is_clipped_is_within_the_bound_and_keeps_its_direction(values, bound, dtype):
    vector = np.array(values, dtype)
    shorter, within = clipped(vector, bound)
    assert norm_of(shorter) <= bound * (1 + 1e-6)
    assert within == (norm_of(vector) <= bound)
    assert np.array_equal(shorter, vector) if within else shorter.dtype == dtype
    if not within:
        assert norm_of(shorter) == pytest.approx(bound, rel=1e-5)
        assert np.dot(shorter.astype(float), vector) == pytest.approx(norm_of(shorter) * norm_of(vector), rel=1e-4)


def test_a_million_numbers_are_normal():
    found = NoiseStream(SECRET, "update", 1).standard(0, 10**6)
    assert abs(found.mean()) < 4e-3
    assert found.var() == pytest.approx(1, rel=5e-3)
    assert (found**4).mean() == pytest.approx(3, rel=2e-2)
    # Kolmogorov and Smirnov's distance from the normal distribution; 1.95 / 1000 is passed once in a thousand.
    ordered = np.sort(found)
    normal = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in ordered[::97]])
    assert np.abs(normal - np.arange(len(found))[::97] / len(found)).max() < 1.95e-3
    assert np.abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 4e-3


def test_any_block_of_a_stream_can_be_made_alone():
    noise = NoiseStream(SECRET, "update", 1)
    whole = noise.standard(0, 1000)
    assert np.array_equal(whole[300:777], noise.standard(300, 477))


def test_every_release_every_run_and_every_secret_has_noise_of_its_own():
    streams = [
        NoiseStream(SECRET, "update", 1),
        NoiseStream(SECRET, "update", 2),
        NoiseStream(SECRET, "count", 1),
        NoiseStream(run_secret(SECRET, "a"), "update", 1),
        NoiseStream(run_secret(SECRET, "b"), "update", 1),
        NoiseStream(fresh_secret(), "update", 1),
        NoiseStream(fresh_secret(), "update", 1),
    ]
    firsts = [float(stream.standard(0, 1)[0]) for stream in streams]
    assert len(set(firsts)) == len(firsts)


def test_the_same_release_has_the_same_noise_after_a_crash(tmp_path):
    key = tmp_path / "noise.key"
    before = NoiseStream(kept_secret(key), "update", 3).standard(0, 5)
    after = NoiseStream(kept_secret(key), "update", 3).standard(0, 5)
    assert np.array_equal(before, after)
    assert key.stat().st_mode & 0o077 == 0


@given(st.floats(1e-6, 1e3), st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20))
def test_what_comes_out_lies_on_a_grid_that_does_not_depend_on_the_sum(deviation, total):
    sums = np.array(total) * deviation
    noisy = NoiseStream(SECRET, "update", 1).add(sums, deviation=deviation)
    steps = noisy / grid_of(deviation)
    assert np.array_equal(steps, np.rint(steps))
    assert np.abs(noisy - sums).max() < 10 * deviation


def test_noise_has_the_deviation_that_was_asked_for():
    noisy = NoiseStream(SECRET, "update", 1).add(np.full(100_000, 7.0), deviation=0.3)
    assert noisy.mean() == pytest.approx(7, abs=0.005)
    assert noisy.std() == pytest.approx(0.3, rel=0.01)


def central(noise: float = 1.0, **adaptive: float) -> CentralPrivacy:
    return CentralPrivacy(clip_norm=1.0, noise_multiplier=noise, adaptive=AdaptiveClip(**adaptive))


@pytest.mark.parametrize(("count_noise", "figure"), [(5.0, 1.005038), (1.0, 1.154701)])
def test_updates_get_a_little_more_noise_where_the_clip_norm_adapts(count_noise, figure):
    """Andrew et al. 2021, arXiv:1905.03871, section 3.1."""
    assert update_noise(central(count_noise=count_noise), cohort=100) == pytest.approx(figure, abs=1e-6)
    assert update_noise(central(), cohort=100) == pytest.approx(1.005038, abs=1e-6)  # a twentieth of 100
    assert update_noise(CentralPrivacy(clip_norm=1.0, noise_multiplier=1.3), cohort=100) == 1.3


def test_too_little_noise_on_the_count_is_refused():
    with pytest.raises(SpecError, match="too little") as caught:
        update_noise(central(), cohort=10)
    assert "above 0.5" in caught.value.hint


def test_the_clip_norm_moves_towards_its_quantile_by_the_papers_step():
    adaptive = AdaptiveClip(quantile=0.5, learning_rate=0.2)
    assert next_clip(adaptive, 2.0, 1.0) == pytest.approx(2.0 * math.exp(-0.1))  # all within: it shrinks
    assert next_clip(adaptive, 2.0, 0.0) == pytest.approx(2.0 * math.exp(0.1))
    assert next_clip(adaptive, 2.0, 0.5) == 2.0


# ---- what cannot go together ------------------------------------------------------------------------------------

CENTRAL = {"clip_norm": 1.0, "noise_multiplier": 1.0}
EXAMPLES = {**CENTRAL, "sampling_rate": 0.1}
SCAFFOLD = {"weighting": "uniform", "algorithm": "scaffold"}
REFUSED = [
    ({"privacy": {"central": CENTRAL}}, "sums over rows"),
    ({"privacy": {"statistics": False, "central": CENTRAL, "examples": EXAMPLES}}, "in one job"),
    ({"privacy": {"statistics": False, "central": CENTRAL, "local": CENTRAL}}, "in one job"),
    (
        {"privacy": {"statistics": False, "local": CENTRAL}, "federation": {"weighting": "examples"}},
        r"\[privacy.local\]",
    ),
    ({"privacy": {"statistics": False, "local": CENTRAL}, "federation": SCAFFOLD}, "control variates"),
    ({"evaluation": {"alone": True}}, "scores of models"),
    ({"evaluation": {"personalise_epochs": 1}}, "scores of models"),
    ({"federation": {"weighting": "examples"}}, "weights by examples"),
    ({"federation": SCAFFOLD}, "control variates"),
    ({"privacy": {"statistics": False, "examples": EXAMPLES}}, "row by row"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_what_would_leave_without_noise_is_refused_by_name(change, said):
    document = {
        "name": "a",
        "task": {"code": "t.py:T"},
        "data": {"dataset": "d"},
        "federation": {"weighting": "uniform"},
        "privacy": {"statistics": False, "central": CENTRAL},
    }
    require_private_fit(job_from(dict(document)))
    with pytest.raises(SpecError, match=said) as caught:
        require_private_fit(job_from({**document, **change}))
    assert caught.value.hint
