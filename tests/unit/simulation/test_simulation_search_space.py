"""What a search may try: keys that exist, values they take, and the job that values make."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.simulation.search.space import Space
from archipel.spec import ArchipelError, JobSpec, SpecError, UnknownNameError, encode
from archipel.spec.job import job_from

RATE = {"low": 0.001, "high": 1.0, "log": True}


def job(parameters: dict[str, Any] | None, **tables: Any) -> JobSpec:
    document: dict[str, Any] = {
        "name": "points",
        "task": {"code": "task.py:Points", "options": {"hidden": 8}},
        "data": {"dataset": "points"},
        "federation": {"rounds": 40},
        "simulation": {},
        **tables,
    }
    if parameters is not None:
        document["search"] = {"parameters": parameters}
    return job_from(document)


def test_values_are_laid_into_the_job_and_nothing_else_changes() -> None:
    given = job({"federation.local.learning_rate": RATE, "simulation.cohort": {"choices": [10, 20]}})
    made = Space(given).job_of({"federation.local.learning_rate": 0.25, "simulation.cohort": 20})
    assert made.federation.local.learning_rate == 0.25
    assert made.simulation is not None
    assert made.simulation.cohort == 20
    expected = job(
        None,
        federation={"rounds": 40, "local": {"learning_rate": 0.25}},
        simulation={"cohort": 20},
        evaluation={"every": 4},
    )
    assert encode(made) == encode(expected)


@pytest.mark.parametrize(("rounds", "every", "expected"), [(40, 0, 4), (40, 7, 7), (3, 0, 1)])
def test_a_trial_is_scored_as_often_as_the_job_says_or_ten_times(rounds: int, every: int, expected: int) -> None:
    space = Space(
        job(
            {"federation.local.epochs": {"low": 1, "high": 3}},
            federation={"rounds": rounds},
            evaluation={"every": every},
        )
    )
    assert space.job_of({}).evaluation.every == expected


def test_every_trial_gets_a_ninth_of_the_rounds_unless_the_job_says_otherwise() -> None:
    assert Space(job({"federation.local.learning_rate": RATE})).min_rounds == 4
    search = {"parameters": {"federation.local.learning_rate": RATE}, "min_rounds": 9}
    assert Space(job(None, search=search)).min_rounds == 9


def test_whole_numbers_are_told_by_the_key_and_for_a_task_by_how_they_are_written() -> None:
    ranges = {
        "federation.local.batch_size": {"low": 4, "high": 32},
        "federation.local.learning_rate": {"low": 1, "high": 2},
        "task.options.hidden": {"low": 4, "high": 8},
        "task.options.dropout": {"low": 0.0, "high": 1.0},
    }
    space = Space(job(ranges))
    assert [name for name in ranges if space.is_whole(name)] == ["federation.local.batch_size", "task.options.hidden"]


def test_an_option_applies_to_the_algorithms_that_have_it_and_is_left_out_of_others() -> None:
    parameters = {
        "federation.options.mu": RATE,
        "federation.algorithm": {"choices": ["fedavg", "fedprox", "scaffold"]},
    }
    prox = {"rounds": 40, "algorithm": "fedprox", "options": {"mu": 0.5}}
    space = Space(job(parameters, federation=prox))
    assert list(space.parameters) == ["federation.algorithm", "federation.options.mu"]
    assert space.applies("federation.options.mu", {"federation.algorithm": "fedprox"})
    assert not space.applies("federation.options.mu", {"federation.algorithm": "fedavg"})
    assert space.job_of({"federation.algorithm": "fedavg"}).federation.options == {}
    made = space.job_of({"federation.algorithm": "fedprox", "federation.options.mu": 0.1})
    assert made.federation.options == {"mu": 0.1}


REFUSED: list[tuple[dict[str, Any] | None, dict[str, Any], type[ArchipelError], str, str]] = [
    (
        {"federation.local.learning_rat": RATE},
        {},
        UnknownNameError,
        "learning_rat'",
        "'federation.local.learning_rate'",
    ),
    ({"federation.options.nu": RATE}, {}, UnknownNameError, "nu", "federation.options.mu"),
    ({"federation.seed": {"low": 0, "high": 9}}, {}, UnknownNameError, "federation.seed", "known|mean"),
    ({"federation.local.epochs": {"low": 3, "high": 1}}, {}, SpecError, "low 3 is not below high 1", "turn"),
    ({"federation.local.momentum": {"low": 0.0, "high": 0.9, "log": True}}, {}, SpecError, "logarithm of 0", "above 0"),
    ({"federation.local.momentum": {"low": 0.0, "high": 1.5}}, {}, SpecError, "momentum = 1.5: Expected", "mend"),
    ({"federation.local.batch_size": {"low": 1.5, "high": 8}}, {}, SpecError, "batch_size = 1.5: Expected", "mend"),
    ({"federation.local.optimizer": {"choices": ["sgd", "adm"]}}, {}, SpecError, "optimizer = adm: Invalid", "mend"),
    ({"federation.local.epochs": {"low": 1}}, {}, SpecError, "neither a range nor choices", "low = "),
    ({"federation.local.epochs": {"low": 1, "high": 2, "choices": [3]}}, {}, SpecError, "or both", "low = "),
    ({"federation.local.epochs": {}}, {}, SpecError, "neither a range nor choices", "low = "),
    ({"federation.local.epochs": {"choices": [1, 1]}}, {}, SpecError, "choices twice", "once"),
    ({"federation.options.mu": RATE}, {}, SpecError, "no algorithm of this search has", "federation.algorithm"),
    (
        {"federation.algorithm": {"choices": ["fedavg", "scaffold"]}},
        {"federation": {"local": {"momentum": 0.9}}},
        SpecError,
        "scaffold needs plain local SGD",
        "momentum = 0",
    ),
    ({"federation.local.epochs": {"low": 1, "high": 2}}, {"simulation": None}, SpecError, "no virtual clients", "add"),
    (None, {}, SpecError, "says nothing to search", "search.parameters"),
    ({}, {}, SpecError, "says nothing to search", "search.parameters"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[case[3] for case in REFUSED])
def test_what_cannot_be_searched_is_refused_with_the_next_step(
    case: tuple[dict[str, Any] | None, dict[str, Any], type[ArchipelError], str, str],
) -> None:
    parameters, tables, kind, message, hint = case
    with pytest.raises(kind, match=message) as caught:
        Space(job(parameters, **tables))
    assert re.search(hint, caught.value.hint)


def test_a_key_without_quotes_is_refused_with_how_to_write_it() -> None:
    with pytest.raises(SpecError, match="table of tables") as caught:
        job({"federation": {"local": {"learning_rate": RATE}}})
    assert "quotes" in caught.value.hint


@given(st.floats(1e-6, 1e3), st.integers(1, 500))
def test_a_trials_job_has_its_values_and_is_a_job_again(rate: float, size: int) -> None:
    ranges = {
        "federation.local.learning_rate": {"low": 1e-6, "high": 1e3},
        "federation.local.batch_size": {"low": 1, "high": 500},
    }
    made = Space(job(ranges)).job_of({"federation.local.learning_rate": rate, "federation.local.batch_size": size})
    assert (made.federation.local.learning_rate, made.federation.local.batch_size) == (rate, size)
    assert made.search is None
