"""Gradient inversion: rows of `make attack`, from the scenes of the table; a try is a row that somebody wants back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from inversion import scenes
from inversion.leak import READABLE

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
