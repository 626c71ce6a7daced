"""Gradient inversion: rows of `make attack`, from the scenes of the table; a try is a row that somebody wants back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from inversion import scenes
from inversion.leak import PIXELS, READABLE, Model, candidates, psnr_of

SEEDS = 3


@pytest.fixture
def recovered(record_property: Callable[[str, object], None]) -> Callable[[scenes.Scene], int]:
    """Return a function that counts the rows read back in a scene."""

    def count(scene: scenes.Scene) -> int:
        found = np.concatenate([scene.psnr(seed) for seed in range(SEEDS)])
        readable = int((found >= READABLE).sum())
        record_property("tries", len(found))
        record_property("open", readable)
        return readable

    return count


Recovered = Callable[[scenes.Scene], int]


@pytest.mark.attack(
    "curious control", "invert a plain update of 8 rows", open="all of it, and what can be inverted from it"
)
def test_a_plain_update_gives_rows_away(recovered: Recovered) -> None:
    assert recovered(scenes.plain(8)) > 0


@pytest.mark.attack(
    "curious control",
    "invert a secure sum of 10 updates of one row each",
    open="The sum of few, small updates can give training rows away",
)
def test_a_secure_sum_of_few_rows_gives_them_away(recovered: Recovered) -> None:
    assert recovered(scenes.secure(10, 1)) > 0


@pytest.mark.attack(
    "hostile control",
    "invert a secure sum of 50 updates by weights made for it",
    open="With weights that are made for it, a sum over many rows gives most of them away",
)
def test_a_secure_sum_under_weights_made_for_it_gives_rows_away(recovered: Recovered) -> None:
    assert recovered(scenes.secure(50, 1, made=True)) > 0


@pytest.mark.attack(
    "hostile control", "invert a secure sum of 50 updates with shared noise 1, clip norm 1, by weights made for it"
)
def test_shared_noise_leaves_none_to_read(recovered: Recovered) -> None:
    assert recovered(scenes.shared(50, 1, 1.0, made=True)) == 0


@pytest.mark.attack("curious control", "invert an update of 8 rows with noise 1 for each row, clip norm 1")
def test_noise_for_each_row_leaves_none_to_read(recovered: Recovered) -> None:
    assert recovered(scenes.examples(8, 1.0)) == 0


@pytest.mark.attack("hostile site", "invert the mean of 10 updates that is released with noise 1, clip norm 1")
def test_central_noise_leaves_none_to_read_in_what_is_released(recovered: Recovered) -> None:
    assert recovered(scenes.central(10, 1, 1.0)) == 0


def test_a_row_is_a_quotient_of_slopes() -> None:
    """By hand: one neuron, awake; its weights' slopes over its bias's are the row."""
    chance = np.random.default_rng(0)
    model, row = Model.drawn(chance), np.linspace(0, 1, PIXELS)[None]
    slopes = model.gradients(row, np.array([3]))[0]
    step = 1e-6
    bent = Model(model.weights, model.biases + np.eye(len(model.biases))[0] * step, model.last)

    def loss(of: Model) -> float:
        logits = np.maximum(row @ of.weights + of.biases, 0) @ of.last
        return float(np.log(np.exp(logits).sum()) - logits[0, 3])

    assert slopes[PIXELS * len(model.biases)] == pytest.approx((loss(bent) - loss(model)) / step, abs=1e-4)
    assert psnr_of(row, candidates(model.update(row, np.array([3]))))[0] > READABLE
