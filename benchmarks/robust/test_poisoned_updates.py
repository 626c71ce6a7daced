"""Poisoned updates against the recommended rules, on digits: rows of `make attack`, trained as those of the table.

A rule survives an attack where sites are alike if it loses no more than WORSE; where they differ, the recommended ones
lose more to the two lies that are worst for them, and the documents say so.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator

import pytest
from threadpoolctl import threadpool_limits

from robust.__main__ import RECOMMENDED, WORSE, named, scores
from robust.attacks import ATTACKS

SEEDS = 3
LIES = [name for name in ATTACKS if name != "none"]
WORST = ("sign flip x4", "IPM 0.6")
RULES = [pytest.param(rule, named(rule), id=named(rule)) for rule in RECOMMENDED]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the table is made; threads that wait for each other on a busy machine take ten times as long."""
    with threadpool_limits(1):
        yield


@functools.cache
def accuracy(rule: tuple[str, str] | None, attack: str, alpha: float | None) -> float:
    """Return the mean over seeds."""
    return statistics.fmean(scores(rule, attack, alpha, SEEDS))


@pytest.mark.attack("hostile site", "bend the model, sites alike: {lie}", result="survived")
@pytest.mark.parametrize(("rule", "name"), RULES)
@pytest.mark.parametrize("lie", LIES)
def test_a_recommended_rule_survives_where_sites_are_alike(
    lie: str, rule: tuple[str, str], name: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("tries", SEEDS)
    lost = accuracy(rule, "none", None) - accuracy(rule, lie, None)
    assert lost <= WORSE, f"{name} loses {lost:.3f}"


@pytest.mark.attack(
    "hostile site",
    "bend the model, sites unlike: {lie}",
    result="open",
    open="What hides within the honest spread passes. Where data differ much, that spread is wide",
)
@pytest.mark.parametrize(("rule", "name"), RULES)
@pytest.mark.parametrize("lie", WORST)
def test_where_sites_differ_the_worst_lies_cost_more_as_is_said(
    lie: str, rule: tuple[str, str], name: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("tries", SEEDS)
    lost = accuracy(rule, "none", 0.3) - accuracy(rule, lie, 0.3)
    assert lost > WORSE, f"{name} loses {lost:.3f} only: say so"


@pytest.mark.attack(
    "hostile site",
    "bend the model, sites unlike, 7 of 20 lie, centred clipping: sign flip x4",
    result="open",
    open="Where sites' data differ it falls to seven coordinated liars of twenty, also with `tolerate = 7`",
)
def test_centred_clipping_falls_to_a_third_of_the_sites(record_property: Callable[[str, object], None]) -> None:
    record_property("tries", SEEDS)
    found = scores(("centred-clipping", "none"), "sign flip x4", 0.3, SEEDS, liars=7)
    assert statistics.fmean(found) < 0.3, "it holds: say so"


@pytest.mark.attack(
    "hostile site",
    "bend the model, no robust rule: sign flip x4",
    result="open",
    open="One site that lies can spoil an averaged model",
)
def test_the_mean_falls_to_one_coordinated_lie(record_property: Callable[[str, object], None]) -> None:
    record_property("tries", SEEDS)
    assert accuracy(None, "sign flip x4", None) < 0.2
