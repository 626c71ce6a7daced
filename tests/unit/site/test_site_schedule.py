"""Learning rates over rounds, by hand, and the streams of random numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.site.worker.schedule import learning_rate, stream
from archipel.spec import LocalTraining

ROUNDS = 4


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1.0, 1.0, 1.0, 1.0]),
        ("linear", 0, [1.0, 0.75, 0.5, 0.25]),
        ("cosine", 0, [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        ("constant", 1, [0.5, 1.0, 1.0, 1.0]),
        ("linear", 2, [1 / 3, 2 / 3, 1.0, 0.5]),
        ("cosine", 9, [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_rates_are_those_computed_by_hand(schedule: str, warmup: int, expected: list[float]) -> None:
    local = LocalTraining(learning_rate=1.0, schedule=schedule, warmup_rounds=warmup)
    assert [learning_rate(local, step, ROUNDS) for step in range(1, ROUNDS + 1)] == pytest.approx(expected)


@given(
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    warmup=st.integers(0, 20),
    rounds=st.integers(1, 50),
    data=st.data(),
)
def test_every_round_moves_and_none_by_more_than_the_rate(
    schedule: str, warmup: int, rounds: int, data: st.DataObject
) -> None:
    local = LocalTraining(learning_rate=0.3, schedule=schedule, warmup_rounds=warmup)
    rate = learning_rate(local, data.draw(st.integers(1, rounds)), rounds)
    assert 0 < rate <= 0.3


def test_streams_differ_by_seed_round_and_site() -> None:
    streams = {stream(seed, step, site) for seed in (0, 1) for step in (1, 2) for site in ("a", "b")}
    assert len(streams) == 8
    assert stream(1, 2, "a") == stream(1, 2, "a")
