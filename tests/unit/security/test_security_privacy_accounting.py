"""Epsilon against what papers and other accountants published, from a job to events to the figure."""

from __future__ import annotations

import itertools
import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.security.privacy import (
    Composed,
    Gaussian,
    PoissonSampled,
    Repeated,
    TreeAggregation,
    delta_of,
    epsilon_of,
    gaussian_of,
    promised,
    releases_of,
)
from archipel.security.privacy.tree import squared_sensitivity
from archipel.spec import JobSpec, MissingExtraError, decode, encode
from archipel.spec.job import job_from


def job(*, clients: int, cohort: int, noise: float, rounds: int, delta: float = 1e-5, **central) -> JobSpec:
    """Say a published experiment as a job: Poisson sampling of clients, noise at the coordinator."""
    return job_from(
        {
            "name": "published",
            "task": {"code": "task.py:Task"},
            "data": {"dataset": "rows"},
            "federation": {"rounds": rounds, "weighting": "uniform"},
            "simulation": {"clients": clients, "cohort": cohort, "sampling": "poisson"},
            "privacy": {
                "statistics": False,
                "central": {"clip_norm": 1.0, "noise_multiplier": noise, "delta": delta, **central},
            },
        }
    )


# Abadi et al. 2016 (arXiv:1607.00133); McMahan et al. 2018 (arXiv:1710.06963); the tutorials and tests of TensorFlow
# Privacy; Andrew et al. 2021; Opacus. Accountant → what it gave where that was published, else measured elsewhere.
JOBS = [
    pytest.param(job(clients=100, cohort=1, noise=4, rounds=10_000), {"moments": 1.26, "rdp": 1.0355, "pld": 0.947}),
    pytest.param(job(clients=763_430, cohort=5000, noise=1, rounds=5000, delta=1e-9), {"moments": 4.634}),
    pytest.param(job(clients=10**8, cohort=5000, noise=1, rounds=5000, delta=1e-9), {"moments": 1.152}),
    pytest.param(
        job(clients=60_000, cohort=256, noise=1.1, rounds=14_062), {"moments": 3.01, "rdp": 2.5966, "pld": 2.3817}
    ),
    pytest.param(job(clients=60_000, cohort=256, noise=1.3, rounds=3515), {"moments": 1.19}),
    pytest.param(job(clients=60_000, cohort=256, noise=0.7, rounds=10_546), {"moments": 7.10}),
    pytest.param(job(clients=60_000, cohort=150, noise=1.3, rounds=6000), {"rdp": 0.7242, "pld": 0.6401}),
    pytest.param(job(clients=100, cohort=1, noise=0.8, rounds=1000, delta=1e-6), {"rdp": 4.2935, "pld": 3.7062}),
    pytest.param(job(clients=3400, cohort=100, noise=1, rounds=1500, delta=3400**-1.1), {"rdp": 7.0706, "pld": 6.3501}),
    pytest.param(job(clients=100, cohort=100, noise=10, rounds=100), {"rdp": 4.7285, "pld": 4.3772}),
]


@pytest.mark.parametrize(("published", "figures"), JOBS)
def test_a_published_job_costs_what_was_published(published: JobSpec, figures: dict[str, float]) -> None:
    assert published.simulation is not None
    releases = releases_of(published, clients=published.simulation.clients)
    assert releases is not None
    for accountant, figure in figures.items():
        found = releases.guarantee(published.federation.rounds, accountant).epsilon
        assert found == pytest.approx(figure, rel=0.01), accountant


@pytest.mark.parametrize(("noise", "epsilon"), [(1.0, 1.0), (4.0, 0.1), (0.5, 8.0)])
def test_noise_of_each_site_costs_what_the_gaussian_mechanisms_exact_curve_says(noise: float, epsilon: float) -> None:
    """Balle and Wang 2018, arXiv:1805.06530, theorem 8; the classic formula holds for no epsilon above 1."""

    def tail(value: float) -> float:
        return math.erfc(-value / math.sqrt(2)) / 2

    left, right = 1 / (2 * noise) - epsilon * noise, -1 / (2 * noise) - epsilon * noise
    exact = tail(left) - math.exp(epsilon) * tail(right)
    told = job_from(
        {
            "name": "local",
            "task": {"code": "task.py:Task"},
            "data": {"dataset": "rows"},
            "federation": {"rounds": 9, "weighting": "uniform"},
            "privacy": {"statistics": False, "local": {"clip_norm": 1.0, "noise_multiplier": noise, "delta": exact}},
        }
    )
    releases = releases_of(told)
    assert releases is not None
    assert (releases.unit, releases.trusted) == ("site", "nobody")
    assert releases.guarantee(1).epsilon == pytest.approx(epsilon, rel=0.01)
    assert releases.event(9) == Repeated(event=Gaussian(noise_multiplier=noise), times=9)


TREE = TreeAggregation(noise_multiplier=7, steps=2000, participations=6, separation=313)
"""Gboard's Spanish language model by DP-FTRL (arXiv:2305.18465): zCDP 0.81, epsilon 8.90."""


def test_dp_ftrl_of_gboard_costs_what_was_published() -> None:
    squared = squared_sensitivity(steps=2000, participations=6, separation=313)
    assert (squared, squared / (2 * 7**2)) == (79, pytest.approx(0.80612, abs=1e-5))
    assert epsilon_of(TREE, delta=1e-10, accountant="rdp") == pytest.approx(8.90, rel=0.01)
    assert epsilon_of(TREE, delta=1e-10) == pytest.approx(8.5261, rel=0.01)


@pytest.mark.parametrize(
    ("rho", "figure"), [(0.1506840301548885, 3.4240074094281336), (0.014342572340349278, 0.9935500950539097)]
)
def test_matrix_factorisation_of_gboard_costs_what_was_published(rho: float, figure: float) -> None:
    assert epsilon_of(gaussian_of(rho), delta=1e-10) == pytest.approx(figure, rel=1e-4)


def test_delta_at_a_given_epsilon_is_that_of_the_accounting_librarys_own_tests() -> None:
    plain = releases_of(job(clients=9, cohort=9, noise=math.sqrt(3), rounds=3), clients=9)
    sampled = releases_of(job(clients=5, cohort=1, noise=0.5, rounds=3), clients=5)
    assert plain is not None
    assert sampled is not None
    assert delta_of(plain.event(3), epsilon=1) == pytest.approx(0.126936, rel=0.01)
    assert delta_of(sampled.event(3), epsilon=1) == pytest.approx(0.15594, rel=0.01)


@pytest.mark.parametrize(
    ("rate", "noise", "times", "delta"), [(0.01, 0.8, 1000, 1e-6), (150 / 60_000, 1.3, 6000, 1e-5)]
)
def test_another_accountant_agrees(rate: float, noise: float, times: int, delta: float) -> None:
    """Gopi et al. 2021 (arXiv:2106.02848): their bounds around the true epsilon hold ours."""
    prv = pytest.importorskip("prv_accountant")
    mechanism = prv.PoissonSubsampledGaussianMechanism(noise_multiplier=noise, sampling_probability=rate)
    theirs = prv.PRVAccountant(
        prvs=[mechanism], max_self_compositions=[times], eps_error=0.01, delta_error=delta / 1000
    )
    low, _, high = theirs.compute_epsilon(delta=delta, num_self_compositions=[times])
    ours = epsilon_of(
        Repeated(event=PoissonSampled(rate=rate, event=Gaussian(noise_multiplier=noise)), times=times), delta=delta
    )
    assert low <= ours <= high + 0.01


# ---- laws -------------------------------------------------------------------------------------------------------


def spent(noise: float, rate: float, times: int, delta: float, accountant: str = "pld") -> float:
    event = Gaussian(noise_multiplier=noise)
    once = event if rate == 1 else PoissonSampled(rate=rate, event=event)
    return epsilon_of(Repeated(event=once, times=times), delta=delta, accountant=accountant)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=3)
@given(st.floats(1, 4), st.sampled_from([0.01, 0.1, 1.0]), st.integers(1, 50))
def test_more_rounds_less_noise_and_a_smaller_delta_cost_more_and_a_tighter_accountant_says_less(noise, rate, times):
    usual = spent(noise, rate, times, 1e-5, "rdp")
    assert usual <= spent(noise, rate, times + 10, 1e-5, "rdp")
    assert usual <= spent(noise * 0.8, rate, times, 1e-5, "rdp")
    assert usual <= spent(noise, rate, times, 1e-6, "rdp")
    assert usual <= spent(noise, 1.0, times, 1e-5, "rdp")
    assert spent(noise, rate, times, 1e-5) <= usual <= spent(noise, rate, times, 1e-5, "moments")


def test_what_is_composed_costs_more_than_its_dearest_part_and_less_than_the_sum():
    parts = (
        Repeated(event=Gaussian(noise_multiplier=5), times=10),
        Repeated(event=PoissonSampled(rate=0.1, event=Gaussian(noise_multiplier=1)), times=20),
    )
    each = [epsilon_of(part, delta=1e-5) for part in parts]
    assert max(each) < epsilon_of(Composed(events=parts), delta=1e-5) < sum(each)
    assert epsilon_of(Composed(), delta=1e-5) == 0


@pytest.mark.parametrize("separation", [1, 2, 3, 5])
@pytest.mark.parametrize("participations", [1, 2, 4])
@pytest.mark.parametrize("steps", [1, 2, 7, 8, 11])
def test_the_trees_sensitivity_is_that_of_trying_every_way_to_take_part(steps, participations, separation):
    def moved(chosen):
        sizes = [2**level for level in range(steps.bit_length())]
        blocks = [(start, size) for size in sizes for start in range(0, steps - size + 1, size)]
        return sum(sum(start <= step < start + size for step in chosen) ** 2 for start, size in blocks)

    ways = itertools.chain.from_iterable(
        itertools.combinations(range(steps), count) for count in range(1, participations + 1)
    )
    apart = (way for way in ways if all(b - a >= separation for a, b in itertools.pairwise(way)))
    found = squared_sensitivity(steps=steps, participations=participations, separation=separation)
    assert found == max(map(moved, apart))


# ---- what a job promises ----------------------------------------------------------------------------------------


def test_only_poisson_sampling_is_said_to_amplify():
    poisson = job(clients=1000, cohort=10, noise=1, rounds=5)
    fixed = job_from({**_table(poisson), "simulation": {"clients": 1000, "cohort": 10}})
    told = promised(poisson, clients=1000)
    plain = promised(fixed, clients=1000)
    live = promised(poisson)
    assert told is not None
    assert plain is not None
    assert live is not None
    assert told.epsilon < plain.epsilon == live.epsilon
    assert (told.unit, told.sampling) == ("client", "Poisson, rate 0.01 of clients a round")
    assert (live.unit, live.sampling) == ("site", "none: every site may be in every round")
    assert plain.sampling == "none: every client may be in every round"
    for words in ("unit: client", "neighbours: zero-out", "sampling: Poisson", "accountant pld", "delta 1e-05"):
        assert words in str(told)


def test_noise_that_follows_from_a_seed_promises_nothing():
    told = promised(job(clients=1000, cohort=10, noise=1, rounds=5, seed=3), clients=1000)
    assert told is not None
    assert told.epsilon is None
    assert "no epsilon at delta 1e-05 (the noise follows from a seed in the job)" in str(told)


def test_a_job_without_noise_promises_nothing_at_all():
    assert promised(job_from({"name": "a", "task": {"code": "t.py:T"}, "data": {"dataset": "d"}})) is None


def test_events_and_guarantees_are_plain_values_that_can_be_kept():
    for event in (TREE, Composed(events=(TREE, Repeated(event=Gaussian(noise_multiplier=2), times=3)))):
        assert decode(encode(event), type(event)) == event
    told = promised(job(clients=1000, cohort=10, noise=1, rounds=5))
    assert decode(encode(told), type(told)) == told


def test_without_the_accountants_an_epsilon_is_refused_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs dp-accounting") as caught:
        epsilon_of(Gaussian(noise_multiplier=1), delta=1e-5)
    assert ".[privacy]" in caught.value.hint


def _table(spec: JobSpec) -> dict:
    import msgspec

    table = msgspec.to_builtins(spec)
    return {name: table[name] for name in ("name", "task", "data", "federation", "privacy")}
