"""Correlated noise: hand-computed coefficients, sensitivity against every way to take part, and less noise in sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.security.privacy import Correlated, Gaussian, Repeated, epsilon_of, releases_of, taps
from archipel.security.privacy.correlated import best_bands, sensitivity, summed_error
from archipel.security.privacy.fit import require_private_fit
from archipel.spec import JobSpec, SpecError
from archipel.spec.job import job_from


def factor(bands: int, steps: int) -> np.ndarray:
    """Lay C out whole: the inverse of the banded matrix of taps."""
    inverse = np.zeros((steps, steps))
    for step in range(steps):
        for back, tap in enumerate(taps(bands)[: step + 1]):
            inverse[step, step - back] = tap
    return np.linalg.inv(inverse)


def test_the_taps_are_the_series_of_the_square_root_of_one_minus_x() -> None:
    assert taps(5) == pytest.approx([1, -1 / 2, -1 / 8, -1 / 16, -5 / 128])
    assert taps(1) == pytest.approx([1])


@pytest.mark.parametrize(("steps", "squared"), [(16, 1.943879), (128, 2.610104), (1024, 3.272554), (2048, 3.493229)])
def test_with_all_bands_it_is_the_square_root_factorisation_whose_sensitivity_is_published(
    steps: int, squared: float
) -> None:
    found = sensitivity(bands=steps, steps=steps, participations=1, separation=steps)
    assert found**2 == pytest.approx(squared, abs=1e-6)


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 4), st.integers(1, 5))
def test_no_way_to_take_part_moves_the_sums_further(
    bands: int, steps: int, participations: int, separation: int
) -> None:
    whole = factor(bands, steps)
    told = sensitivity(bands=bands, steps=steps, participations=participations, separation=separation)
    most = 0.0
    for count in range(1, participations + 1):
        for rounds in itertools.combinations(range(steps), count):
            if all(after - before >= separation for before, after in itertools.pairwise(rounds)):
                # Columns are not negative, so contributions of one direction move the sums furthest.
                most = max(most, float(np.linalg.norm(whole[:, list(rounds)].sum(axis=1))))
    assert told == pytest.approx(most)


def test_one_band_is_independent_noise() -> None:
    correlated = Correlated(noise_multiplier=2.0, bands=1, steps=60, participations=3, separation=20)
    independent = Repeated(event=Gaussian(noise_multiplier=2.0), times=3)
    assert epsilon_of(correlated, delta=1e-5) == pytest.approx(epsilon_of(independent, delta=1e-5), rel=1e-3)


@pytest.mark.parametrize(("bands", "steps"), [(1, 5), (3, 7), (9, 4)])
def test_the_noise_of_sums_is_what_the_matrices_give(bands: int, steps: int) -> None:
    summed = np.tril(np.ones((steps, steps))) @ np.linalg.inv(factor(bands, steps))
    assert summed_error(bands, steps) == pytest.approx(np.sqrt((summed**2).sum() / steps))


@pytest.mark.parametrize(
    ("steps", "participations", "separation", "gain"), [(60, 2, 30, 0.41), (100, 5, 20, 0.39), (2000, 6, 313, 0.14)]
)
def test_bands_are_chosen_for_the_least_noise_in_sums_at_the_same_privacy(
    steps: int, participations: int, separation: int, gain: float
) -> None:
    def noise(bands: int) -> float:
        moved = sensitivity(bands=bands, steps=steps, participations=participations, separation=separation)
        return moved * summed_error(bands, steps)

    chosen = best_bands(steps=steps, participations=participations, separation=separation)
    assert noise(chosen) == min(noise(bands) for bands in range(1, 65 if steps > 64 else steps + 1))
    assert noise(chosen) < gain * noise(1)


def test_correlation_does_not_pay_for_units_that_are_in_every_round() -> None:
    assert best_bands(steps=60, participations=60, separation=1) == 1


def job(**changes: object) -> JobSpec:
    central: dict[str, object] = {"clip_norm": 1.0, "noise_multiplier": 1.0, "noise": "correlated"}
    simulation: dict[str, object] = {"clients": 3000, "cohort": 100, "sampling": "turns"}
    central |= {name: value for name, value in changes.items() if name in {"noise", "adaptive"}}
    simulation |= {name: value for name, value in changes.items() if name in {"sampling", "cohort"}}
    return job_from(
        {
            "name": "turns",
            "task": {"code": "task.py:Task"},
            "data": {"dataset": "rows"},
            "federation": {"rounds": 60, "weighting": "uniform"},
            "simulation": simulation,
            "privacy": {"statistics": False, "central": central},
        }
    )


def test_a_job_whose_clients_take_turns_counts_each_as_often_as_its_turn_comes() -> None:
    independent = releases_of(job(noise="independent"), clients=3000)
    assert independent is not None
    assert independent.event(60) == Repeated(event=Gaussian(noise_multiplier=1.0), times=2)
    assert independent.event(31) == Repeated(event=Gaussian(noise_multiplier=1.0), times=2)
    assert independent.event(30) == Repeated(event=Gaussian(noise_multiplier=1.0), times=1)
    correlated = releases_of(job(), clients=3000)
    assert correlated is not None
    assert correlated.event(31) == Correlated(noise_multiplier=1.0, bands=11, steps=31, participations=2, separation=30)
    assert "in turn, every 30 rounds at the most, noise correlated over 11 rounds" in str(correlated.guarantee(60))


def test_who_trains_in_every_round_takes_no_turns() -> None:
    everybody = releases_of(job(cohort=3000), clients=3000)
    assert everybody is not None
    assert everybody.event(60) == Repeated(event=Gaussian(noise_multiplier=1.0), times=60)


@pytest.mark.parametrize(
    ("changes", "virtual", "words"),
    [
        ({}, False, "a site may be in every round"),
        ({"sampling": "poisson"}, True, "how long a client rests"),
        ({"adaptive": {}}, True, "adaptive"),
    ],
)
def test_what_correlated_noise_cannot_go_with_is_refused(
    changes: dict[str, object],
    virtual: bool,  # noqa: FBT001
    words: str,
) -> None:
    with pytest.raises(SpecError, match=words):
        require_private_fit(job(**changes), virtual=virtual)
    require_private_fit(job(), virtual=True)
