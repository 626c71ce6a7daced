"""An audit from outside: what an attacker measures on one run stays below the epsilon that is told, and noise is why.

Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run", arXiv:2305.08846: m canaries are in or
out by fair coins; the attacker guesses r of them from the model, v rightly. Were the run epsilon-private, v would be at
most Binomial(r, e^eps / (1 + e^eps)) (theorem 5.2, here with delta = 0 and 95 %), so v bounds epsilon from below.

The canaries are clients whose updates are the strongest that clipping allows: each along an axis of its own.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from archipel.federated.private_mean import PrivateMean
from archipel.security.privacy import Gaussian, Repeated, clipped, epsilon_of, seeded_secret
from archipel.spec.privacy import CentralPrivacy

CANARIES, GUESSES, CLIP, SURE = 400, 100, 1.0, 0.95


def released(noise: float, rounds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return who took part, and the sum over rounds of the published means: a model trained by FedAvg, rate 1."""
    taking_part = np.random.default_rng(seed).random(CANARIES) < 0.5
    central = CentralPrivacy(clip_norm=CLIP, noise_multiplier=noise, seed=seed)
    model = np.zeros(CANARIES)
    for step in range(1, rounds + 1):
        mean = PrivateMean(central, seeded_secret(seed), step=step, cohort=CANARIES / 2, clip_norm=CLIP)
        total = np.zeros(CANARIES)
        for canary in np.flatnonzero(taking_part):
            update = np.zeros(CANARIES)
            update[canary] = 1e3  # it shouts: clipping is what holds it to CLIP
            total += clipped(update, CLIP)[0] * mean.share
        model += mean.noisy(total)
    return taking_part, model


def lower_bound(right: int, guesses: int) -> float:
    """Return the largest epsilon that so many right guesses refute with confidence SURE; 0 where they refute none."""

    def tail(epsilon: float) -> float:
        chance = 1 / (1 + math.exp(-epsilon))
        counts = np.arange(right, guesses + 1)
        logs = [
            math.lgamma(guesses + 1) - math.lgamma(count + 1) - math.lgamma(guesses - count + 1)
            + count * math.log(chance) + (guesses - count) * math.log1p(-chance)
            for count in counts
        ]  # fmt: skip
        return sum(map(math.exp, logs))

    low, high = 0.0, 20.0
    if tail(low) > 1 - SURE:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) <= 1 - SURE else (low, middle)
    return low


def audited(noise: float, rounds: int, seed: int) -> float:
    """Guess the canaries whose axes stand out most, half as present and half as absent."""
    taking_part, model = released(noise, rounds, seed)
    order = np.argsort(model)
    guessed_in, guessed_out = order[-GUESSES // 2 :], order[: GUESSES // 2]
    right = int(taking_part[guessed_in].sum() + (~taking_part[guessed_out]).sum())
    return lower_bound(right, GUESSES)


def told(noise: float, rounds: int) -> float:
    return epsilon_of(Repeated(event=Gaussian(noise_multiplier=noise), times=rounds), delta=1e-5)


@pytest.mark.parametrize(("noise", "rounds"), [(1.0, 1), (2.0, 4)])
@pytest.mark.attack("curious control", "tell who took part, beyond the epsilon that is told")
def test_what_an_attacker_measures_stays_below_the_epsilon_that_is_told(noise: float, rounds: int) -> None:
    assert max(audited(noise, rounds, seed) for seed in range(5)) < told(noise, rounds)


def test_the_attacker_is_no_fool_and_measures_something_through_the_noise() -> None:
    assert min(audited(1.0, 1, seed) for seed in range(5)) > 0.3


def test_the_audit_fails_where_the_noise_is_switched_off() -> None:
    """The same attack on the same run, whose epsilon is still told as if there were noise."""
    assert audited(2.0, 1, 0) < told(2.0, 1) < audited(1e-9, 1, 0)


@pytest.mark.parametrize("right", [50, 57, 60, 75, 99])
def test_the_bound_is_clopper_and_pearsons(right: int) -> None:
    """Another way to the same bound: the beta distribution's quantile."""
    chance = stats.beta.ppf(1 - SURE, right, GUESSES - right + 1)
    expected = max(0.0, math.log(chance / (1 - chance)))
    assert lower_bound(right, GUESSES) == pytest.approx(expected, abs=1e-6)
