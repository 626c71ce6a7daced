"""The limiter: hand-counted tables, its law against a bucket of tokens, and bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.control.services.accounts.limiter import Limiter, network_of


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


TABLE = {
    # Two at once, then one each 30 s: (second, key, seconds too early).
    "at once": [(0, "a", 0), (0, "a", 0), (0, "a", 30)],
    "others are others": [(0, "a", 0), (0, "a", 0), (0, "b", 0)],
    "one comes back": [(0, "a", 0), (0, "a", 0), (29, "a", 1), (30, "a", 0), (30, "a", 30)],
    "a refusal costs nothing": [(0, "a", 0), (0, "a", 0), (10, "a", 20), (20, "a", 10), (30, "a", 0)],
    "at an even pace": [(0, "a", 0), (30, "a", 0), (60, "a", 0), (90, "a", 0)],
    "all come back": [(0, "a", 0), (0, "a", 0), (60, "a", 0), (60, "a", 0), (60, "a", 30)],
    "no more than all": [(0, "a", 0), (9999, "a", 0), (9999, "a", 0), (9999, "a", 30)],
}


@pytest.mark.parametrize("name", TABLE)
def test_a_hand_counted_sequence(name: str) -> None:
    clock = Clock()
    limiter = Limiter(every_seconds=30.0, at_once=2, clock=clock)
    for second, key, early in TABLE[name]:
        clock.now = float(second)
        assert limiter.take(key) == early


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 5))
def test_it_lets_through_what_a_bucket_of_tokens_lets_through(pauses: list[int], at_once: int) -> None:
    clock = Clock()
    limiter = Limiter(every_seconds=8.0, at_once=at_once, clock=clock)
    tokens = at_once * 8  # in eighths: a second fills one, a request takes eight
    for pause in pauses:
        clock.now += pause
        tokens = min(tokens + pause, at_once * 8)
        early = limiter.take("a")
        assert (early == 0.0) == (tokens >= 8)
        if early == 0.0:
            tokens -= 8
        else:
            assert early == 8 - tokens


def test_memory_is_bounded_and_who_owes_most_is_not_forgotten() -> None:
    clock = Clock()
    limiter = Limiter(every_seconds=30.0, at_once=3, clock=clock, room=100)
    for _ in range(3):
        limiter.take("guilty")
    for number in range(1000):
        limiter.take(f"one-{number}")
        assert len(limiter) <= 100
    assert limiter.take("guilty") == 30.0


def test_keys_without_debt_are_dropped_first() -> None:
    clock = Clock()
    limiter = Limiter(every_seconds=1.0, at_once=1, clock=clock, room=10)
    for number in range(10):
        limiter.take(f"old-{number}")
    clock.now = 5.0
    limiter.take("new")
    assert len(limiter) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("unknown", "unknown"),
    ],
)
def test_an_address_is_counted_as_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
