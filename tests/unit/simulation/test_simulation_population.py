"""Laws of the ways to divide rows among clients, and of drawing a cohort."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.security.privacy.promise import Turns
from archipel.simulation.population.partitions import ByKey, Dirichlet, Shards, Uniform, open_population, size_of
from archipel.simulation.population.permutation import Permutation
from archipel.simulation.population.port import draw_cohort
from archipel.spec import ArchipelError, DataError, SpecError, UnknownNameError
from archipel.spec.job import SimulationSpec

LABELS = np.random.default_rng(0).integers(0, 10, 4000)
SAMPLES = {"x": np.zeros((4000, 2)), "label": LABELS, "writer": np.array([f"w{n % 7}" for n in range(4000)])}


def _spec(**given: Any) -> SimulationSpec:
    return msgspec.convert(given, SimulationSpec)


@given(st.integers(1, 3000), st.integers(0, 5))
@settings(max_examples=60)
def test_a_permutation_meets_every_number_once(count: int, seed: int) -> None:
    permuted = Permutation(count, (seed,))
    assert sorted(permuted(place) for place in range(count)) == list(range(count))


def test_another_seed_permutes_otherwise() -> None:
    first, second = ([Permutation(500, (seed,))(at) for at in range(500)] for seed in (1, 2))
    assert first != second
    assert sum(one == at for at, one in enumerate(first)) < 20


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=40)
def test_shards_give_every_row_to_one_client(clients: int, shards: int, seed: int) -> None:
    population = Shards(_spec(partition="shards", clients=clients, shards=shards), seed, LABELS)
    dealt = np.concatenate([population.rows(client) for client in range(clients)])
    assert sorted(dealt.tolist()) == list(range(len(LABELS)))


def test_shards_hold_few_labels() -> None:
    population = Shards(_spec(partition="shards", clients=100, shards=2), 0, LABELS)
    # A shard of 20 rows out of about 400 a label meets two labels at most.
    assert max(len(set(LABELS[population.rows(client)])) for client in range(100)) <= 4


@given(st.lists(st.sampled_from(["a", "B", "b", "ä", "a b", "", "3"]), min_size=1, max_size=40))
def test_a_key_divides_all_rows_by_value_under_names_that_sort(values: list[str]) -> None:
    keys = np.array(values)
    population = ByKey(keys)
    assert population.count == len(set(values))
    names = [population.name(client) for client in range(population.count)]
    assert names == sorted(set(names))
    found = [population.rows(client).tolist() for client in range(population.count)]
    assert sorted(row for rows in found for row in rows) == list(range(len(values)))
    for rows in found:
        assert len(set(keys[rows])) == 1
        assert rows == sorted(rows)


def test_uniform_draws_a_clients_rows_without_repeats() -> None:
    population = Uniform(_spec(clients=50, rows=60), 1, 4000)
    for client in range(50):
        rows = population.rows(client).tolist()
        assert len(rows) == len(set(rows)) == 60
        assert rows == population.rows(client).tolist()
    assert population.rows(0).tolist() != population.rows(1).tolist()


def test_a_client_has_no_more_rows_than_there_are() -> None:
    assert len(Uniform(_spec(rows=500), 0, 9).rows(3)) == 9


def test_small_alpha_gives_few_labels_and_large_alpha_all() -> None:
    def commonest(alpha: float) -> float:
        population = Dirichlet(_spec(clients=300, rows=100, alpha=alpha), 0, LABELS)
        shares = [np.bincount(LABELS[population.rows(client)], minlength=10).max() / 100 for client in range(300)]
        return float(np.mean(shares))

    assert commonest(0.05) > 0.75
    assert 0.3 < commonest(0.5) < 0.6
    assert commonest(1000.0) < 0.2


def test_dirichlet_repeats_a_row_only_where_its_class_has_too_few() -> None:
    labels = np.array([0] * 3 + [1] * 500)
    population = Dirichlet(_spec(clients=40, rows=50, alpha=0.5), 0, labels)
    for client in range(40):
        rows = population.rows(client)
        assert len(rows) == 50
        plenty = rows[labels[rows] == 1]
        assert len(set(plenty.tolist())) == len(plenty)


def test_sizes_spread_around_their_median() -> None:
    sizes = [size_of(_spec(rows=60, rows_sigma=0.6), 0, client) for client in range(2000)]
    assert 57 <= np.median(sizes) <= 63
    assert 0.55 < np.std(np.log(sizes)) < 0.65


def test_a_million_clients_take_no_more_memory_than_ten() -> None:
    def peak(clients: int) -> int:
        tracemalloc.start()
        population = open_population(_spec(clients=clients, cohort=10, partition="dirichlet"), 0, SAMPLES)
        for step in (1, 2):
            for client in draw_cohort(population, 10, 0, step):
                population.rows(client)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)
    assert peak(1_000_000) < peak(10) + 100_000


def test_cohorts_differ_from_round_to_round_and_come_again_from_the_seed() -> None:
    population = Uniform(_spec(clients=1_000_000), 0, 4000)
    first = draw_cohort(population, 100, 7, 1)
    assert first == draw_cohort(population, 100, 7, 1) == sorted(set(first))
    assert first != draw_cohort(population, 100, 7, 2)
    assert first != draw_cohort(population, 100, 8, 1)
    assert draw_cohort(Uniform(_spec(clients=5), 0, 4000), 100, 7, 1) == [0, 1, 2, 3, 4]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 30))
def test_who_takes_turns_rests_as_long_and_comes_as_often_as_the_accounting_believes(
    clients: int, cohort: int, rounds: int
) -> None:
    population = Uniform(_spec(clients=clients), 0, 4000)
    drawn = [draw_cohort(population, cohort, 7, step, sampling="turns") for step in range(1, rounds + 1)]
    assert all(len(set(one)) == min(cohort, clients) for one in drawn)
    turns = Turns(cohort=min(cohort, clients), clients=clients)
    for client in range(clients):
        came = [step for step, one in enumerate(drawn) if client in one]
        assert len(came) <= turns.participations(rounds)
        assert all(after - before >= turns.separation for before, after in itertools.pairwise(came))


FAULTS: list[tuple[dict[str, Any], dict[str, Any], type[ArchipelError], str]] = [
    ({"partition": "key"}, SAMPLES, SpecError, "needs a key"),
    ({"partition": "key", "key": "writter"}, SAMPLES, UnknownNameError, "'writter'"),
    ({"partition": "key", "key": "x"}, SAMPLES, SpecError, r"has shape \(4000, 2\)"),
    ({"partition": "dirichlet", "label": "y"}, SAMPLES, UnknownNameError, "'y'"),
    ({"partition": "shards", "clients": 4000}, SAMPLES, SpecError, "need 8000 rows, found 4000"),
    ({}, {"x": np.zeros((0, 2))}, DataError, "no rows to divide"),
]


@pytest.mark.parametrize(("given", "samples", "kind", "message"), FAULTS, ids=[fault[3] for fault in FAULTS])
def test_a_division_that_cannot_be_made_is_refused(
    given: dict[str, Any], samples: dict[str, Any], kind: type[ArchipelError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        open_population(_spec(**given), 0, samples)
    assert caught.value.hint
