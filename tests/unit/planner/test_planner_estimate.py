"""Estimates against numbers worked by hand, enumeration and a simulation of rounds."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.planner.estimate import BatchRate, RoundWork, SitePace, batch_rate, round_quantile, round_time
from archipel.spec.errors import SpecError
from archipel.spec.fleet import Probe
from archipel.spec.quantities import Duration


def probes(*points):
    return [Probe(batch=batch, time=Duration(seconds)) for batch, seconds in points]


def test_two_batches_tell_what_a_batch_and_an_example_take():
    rate = batch_rate(probes((16, 0.018), (64, 0.042)))
    assert (rate.alpha, rate.beta) == (pytest.approx(0.01), pytest.approx(0.0005))


def test_one_size_tells_neither_and_noise_makes_nothing_negative():
    assert batch_rate(probes((16, 0.018), (16, 0.019))) is None
    assert batch_rate([]) is None
    assert batch_rate(probes((16, 0.03), (64, 0.02))) == BatchRate(alpha=0.025, beta=0.0)
    assert batch_rate(probes((1, 1.0), (2, 3.0))) == BatchRate(alpha=0.0, beta=pytest.approx(7 / 5))


def test_a_round_is_transfers_and_batches():
    work = RoundWork(rows=100, epochs=2, batch=32, down_bytes=4e6, up_bytes=2e6)
    pace = SitePace(rate=BatchRate(alpha=0.01, beta=0.001), down=1e6, up=5e5)
    assert work.batches == 8
    assert pace.seconds(work) == pytest.approx(4 + 8 * 0.042 + 4)


def test_an_executed_round_corrects_half_way_and_repeated_ones_all_the_way():
    work = RoundWork(rows=100, epochs=1, batch=100, down_bytes=0, up_bytes=0)
    pace = SitePace(rate=BatchRate(alpha=0.0, beta=0.01))
    assert pace.after(work, seconds=4.0).compute_seconds(work) == pytest.approx(2.0)
    assert pace.after(work, seconds=2.0).after(work, seconds=2**0.5 / 2).correction == pytest.approx(1.0)
    for _ in range(20):
        pace = pace.after(work, seconds=4.0)
    assert pace.compute_seconds(work) == pytest.approx(4.0, rel=1e-4)
    assert pace.after(work, seconds=0.0) == pace


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=6), st.data())
def test_a_round_is_the_mean_over_all_cohorts_of_their_slowest(times, data):
    cohort = data.draw(st.integers(1, len(times)))
    slowest = [max(chosen) for chosen in itertools.combinations(times, cohort)]
    assert round_time(times, cohort) == pytest.approx(statistics.fmean(slowest))
    median = round_quantile(times, cohort, 0.5)
    assert sum(time <= median for time in slowest) >= len(slowest) / 2


@pytest.mark.parametrize("cohort", [10, 100, 300])
def test_a_round_agrees_with_2000_drawn_rounds(cohort):
    chance = np.random.default_rng(7)
    times = chance.lognormal(3.0, 1.0, size=10_000)
    drawn = [times[chance.choice(10_000, cohort, replace=False)].max() for _ in range(2000)]
    assert round_time(times.tolist(), cohort) == pytest.approx(np.mean(drawn), rel=0.03)
    assert round_quantile(times.tolist(), cohort, 0.9) == pytest.approx(np.quantile(drawn, 0.9), rel=0.10)
    assert round_time(times.tolist(), cohort) > 3 * times.mean()  # a mean is the wrong operator


@pytest.mark.parametrize("cohort", [0, 3])
def test_a_cohort_that_cannot_be_drawn_is_refused(cohort):
    with pytest.raises(SpecError):
        round_time([1.0, 2.0], cohort)
