"""Robust rules: numbers by hand, laws, a second way to compute them, and what is done with liars."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.federated.algorithms import BUILT_IN, FedAvg, algorithm_of
from archipel.federated.blocks import ArrayBlocks
from archipel.federated.contribution import Contribution, NonFiniteUpdateError
from archipel.federated.fold import fold, fold_arrays
from archipel.federated.outliers import described
from archipel.federated.port import Outlier, RoundFacts
from archipel.federated.robust import means
from archipel.federated.robust.buckets import Buckets
from archipel.federated.robust.cohorts import least_sites, require_sites
from archipel.federated.robust.columns import FEW, middle_mean, network
from archipel.federated.robust.port import Mixing
from archipel.federated.robust.robust import MIXINGS, RULES, Robust, robust_of
from archipel.federated.rule_conformance import LAWS, combined, least_updates
from archipel.spec import SpecError, TaskError
from archipel.spec.job import FederationSpec, RobustSpec


def make(rule="trimmed-mean", tolerate=1, mixing="none", **more) -> Robust:
    spec = RobustSpec(rule=rule, tolerate=tolerate, mixing=mixing, **more)
    robust = robust_of(FederationSpec(robust=spec, seed=5))
    assert robust is not None
    return robust


# ---- by hand ----------------------------------------------------------------------------------------------------

FIVE = np.array([[0, 0], [1, 0], [2, 1], [3, 1], [100, -50]], np.float32)
"""Norms 0, 1, 2.24, 3.16 and 111.8: the last is longer than 10 times the median, and counts as (20, -10)."""
LINE = np.array([[0], [1], [2], [9]], np.float32)


@dataclass(frozen=True)
class ByHand:
    rule: str
    mixing: str
    updates: np.ndarray
    expected: list[float]
    radius: float | None = None


BY_HAND = [
    # Of 0 1 2 3 20 without 0 and 20; of -10 0 0 1 1 without -10 and 1.
    ByHand("trimmed-mean", "none", FIVE, [2, 1 / 3]),
    ByHand("median", "none", FIVE, [2, 0]),
    # Sums of the 5 - 1 - 2 nearest squares: 1 + 5, 1 + 2, 1 + 2, 1 + 5, and 410 + 445; the first of two is taken.
    ByHand("krum", "none", FIVE, [1, 0]),
    ByHand("multi-krum", "none", FIVE, [1.5, 0.5]),
    # The first four are each other's nearest; the liar's are itself and the last three: (6.5, -2).
    ByHand("trimmed-mean", "nearest-neighbours", FIVE, [1.5, 0.5]),
    ByHand("krum", "nearest-neighbours", FIVE, [1.5, 0.5]),
    # Clipped at 1 around 1.5: -1 - 0.5 + 0.5 + 1 = 0.
    ByHand("centred-clipping", "none", LINE, [1.5], radius=1.0),
    # On a line the geometric median is the median.
    ByHand("geometric-median", "none", LINE[:3], [1]),
]


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: f"{case.rule}-{case.mixing}")
def test_a_rule_gives_what_a_person_computes(case: ByHand) -> None:
    robust = make(case.rule, 1, case.mixing, **({"radius": case.radius} if case.radius else {}))
    assert combined(robust, case.updates) == pytest.approx(case.expected, abs=1e-6)


def test_a_geometric_median_is_where_the_pulls_cancel() -> None:
    updates = np.random.default_rng(0).standard_normal((9, 3))
    point = combined(make("geometric-median", 2), updates)
    away = updates - point
    pulls = away / np.linalg.norm(away, axis=1, keepdims=True)
    assert np.abs(pulls.sum(axis=0)).max() < 1e-5


def test_without_a_radius_centred_clipping_clips_at_the_median_distance_from_where_it_ends() -> None:
    updates = np.random.default_rng(1).standard_normal((11, 4))
    centre = combined(make("centred-clipping", 2), updates)
    away = updates - centre
    lengths = np.linalg.norm(away, axis=1, keepdims=True)
    clipped = away * np.minimum(1, np.median(lengths) / lengths)
    assert np.abs(clipped.mean(axis=0)).max() < 1e-6


def test_krum_is_the_definition_on_many_updates() -> None:
    for seed in range(20):
        updates = np.random.default_rng(seed).standard_normal((11, 6))
        scores = [
            sum(sorted(float(((one - other) ** 2).sum()) for other in np.delete(updates, place, axis=0))[: 11 - 3 - 2])
            for place, one in enumerate(updates)
        ]
        assert (combined(make("krum", 3), updates) == updates[int(np.argmin(scores))]).all()
        taken = updates[np.argsort(scores)[: 11 - 3]].mean(axis=0)
        assert combined(make("multi-krum", 3), updates) == pytest.approx(taken)


@given(st.integers(1, 200), st.integers(2, 7), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_each_update_is_in_one_bucket_and_a_bucket_is_the_mean_of_its_own(count: int, size: int, seed: int) -> None:
    matrix = Buckets(size).matrix(np.zeros((count, count)), 1, np.random.default_rng(seed))
    assert matrix.shape == (-(-count // size), count)
    assert (np.count_nonzero(matrix, axis=0) == 1).all()
    assert matrix.sum(axis=1) == pytest.approx(1)
    assert (np.count_nonzero(matrix, axis=1)[:-1] == size).all()


def test_buckets_are_drawn_anew_in_each_round_and_the_same_again_in_a_repeated_one() -> None:
    updates = {f"s{place}": (1.0, {"delta": np.eye(9)[place]}) for place in range(9)}
    robust = make("median", 1, "buckets")

    def at(step: int) -> bytes:
        facts = RoundFacts(step=step, cohort=9, population=9)
        return fold_arrays(FedAvg({}), facts, updates, np.zeros(9), robust=make("krum", 1, "buckets"))[0].tobytes()

    assert robust.seed == 5
    assert at(1) == at(1)
    assert at(1) != at(2)


# ---- laws -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_after_every_mixing_keeps(rule: str, mixing: str, law) -> None:
    law(make(rule, 3, mixing))


class _Mean:
    """A rule that is none: it says that it bears liars."""

    name = "mean"

    def least(self, tolerate: int) -> int:
        return 2 * tolerate + 1

    def combine(self, rows, tolerate: int):
        return rows.mean(axis=0)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_laws_tell_a_mean_from_a_robust_rule(law) -> None:
    mean = Robust(rule=_Mean(), mixing=None, tolerate=3, seed=0)
    if law.__name__ == "no_lie_carries_the_result_away":
        with pytest.raises(AssertionError, match="carried the result"):
            law(mean)
    else:
        law(mean)


# ---- the middle of columns --------------------------------------------------------------------------------------


@given(st.integers(1, FEW + 20), st.data(), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_the_middle_mean_is_the_mean_of_the_sorted_middle(count: int, data, seed: int) -> None:
    trim = data.draw(st.integers(0, (count - 1) // 2))
    rows = np.random.default_rng(seed).choice([-2.0, -0.5, 0.0, 1.0, 7.0], (count, 23))
    expected = np.sort(rows, axis=0)[trim : count - trim].mean(axis=0)
    assert middle_mean(rows.copy(), trim) == pytest.approx(expected, abs=1e-12)
    assert (middle_mean(rows.copy(), (count - 1) // 2) == np.median(rows, axis=0)).all()


@pytest.mark.parametrize("count", range(1, 11))
def test_a_network_puts_every_row_of_zeros_and_ones_in_its_place(count: int) -> None:
    """A network that sorts all zeros and ones sorts everything (the zero-one principle)."""
    every = np.array(list(itertools.product([0.0, 1.0], repeat=count))).T
    for trim in range((count + 1) // 2):
        rows = list(every.copy())
        for low, high in network(count, trim):
            rows[low], rows[high] = np.minimum(rows[low], rows[high]), np.maximum(rows[low], rows[high])
        assert (np.array(rows)[trim : count - trim] == np.sort(every, axis=0)[trim : count - trim]).all()


# ---- liars ------------------------------------------------------------------------------------------------------

HONEST = 4 + np.random.default_rng(3).standard_normal((7, 50)).astype(np.float32)


def folded(robust: Robust | None, updates, weights=None) -> tuple[np.ndarray, tuple[Outlier, ...]]:
    model = {"model": np.zeros(updates.shape[1], updates.dtype)}
    contributions = [
        Contribution(site=f"s{place}", weight=weight, parts=ArrayBlocks({"delta": update}))
        for place, (update, weight) in enumerate(zip(updates, weights or [1.0] * len(updates), strict=True))
    ]
    facts = RoundFacts(step=1, cohort=len(updates), population=len(updates))
    target = ArrayBlocks({"model": np.zeros_like(model["model"])})
    outliers = fold(
        FedAvg({}),
        facts,
        contributions,
        robust=robust,
        model_in=ArrayBlocks(model),
        state_in=None,
        model_out=target,
        state_out=None,
    )
    return target.read("model", 0, updates.shape[1], model["model"]), outliers


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.attack("hostile site", "send NaN or infinity, under a robust rule", result="survived")
def test_as_many_broken_updates_as_are_tolerated_are_left_out_and_named(value: float) -> None:
    updates = HONEST.copy()
    updates[2, 31] = updates[5, 0] = value
    found, outliers = folded(make(tolerate=2), updates)
    assert found == pytest.approx(np.delete(HONEST, [2, 5], axis=0).mean(axis=0)), "what is left is trusted"
    assert [(one.site, one.norm, one.handled) for one in outliers] == [
        ("s2", None, "left out"),
        ("s5", None, "left out"),
    ]
    assert described(outliers[0]) == "part 'delta' of s2 holds NaN or infinity: left out"


def test_more_broken_updates_than_are_tolerated_are_refused_by_name() -> None:
    updates = HONEST.copy()
    updates[3:6, 0] = np.nan
    with pytest.raises(NonFiniteUpdateError) as caught:
        folded(make(tolerate=2), updates)
    assert caught.value.site == "s3"


def test_a_broken_update_uses_up_one_of_the_lies_that_are_tolerated() -> None:
    updates = HONEST.copy()
    updates[0], updates[1] = np.nan, 1e9
    found, outliers = folded(make("median", tolerate=2), updates)
    assert np.abs(found - 4).max() < 3
    assert [(one.site, one.handled) for one in outliers] == [("s0", "left out"), ("s1", "shortened")]


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.attack("hostile site", "shout, under a robust rule", result="survived")
def test_a_far_longer_update_is_shortened_to_ten_times_the_median_and_named(rule: str, mixing: str) -> None:
    updates = np.concatenate([HONEST, HONEST[:2] + np.float32(0.5), np.full((1, 50), 1e30, np.float32)])
    found, outliers = folded(make(rule, 1, mixing), updates)
    norms = np.linalg.norm(updates.astype(float), axis=1)
    [outlier] = outliers
    assert (outlier.site, outlier.handled) == ("s9", "shortened")
    assert outlier.norm == pytest.approx(norms[9])
    assert outlier.median == pytest.approx(np.median(norms))
    shortened = updates.copy()
    shortened[9] *= 10 * np.median(norms) / norms[9]
    assert found == pytest.approx(folded(make(rule, 1, mixing), shortened)[0], abs=1e-4)


@pytest.mark.attack(
    "hostile site", "shout, under the mean", result="open", open="One site that lies can spoil an averaged model"
)
def test_an_update_of_the_mean_that_is_far_longer_counts_and_is_named() -> None:
    updates = HONEST.copy()
    updates[4] *= 100
    found, outliers = folded(None, updates)
    assert found == pytest.approx(updates.mean(axis=0), rel=1e-5)
    [outlier] = outliers
    assert (outlier.site, outlier.part, outlier.handled) == ("s4", "delta", "counted")
    assert described(outlier) == f"part 'delta' of s4 has norm {outlier.norm:.3g}, the median is 30.2: counted"


def test_a_norm_that_no_number_can_hold_is_told_as_a_number() -> None:
    updates = HONEST.copy()
    updates[4] = 3e38
    _, [outlier] = folded(None, updates)
    assert np.isfinite(outlier.norm)


def test_honest_updates_are_not_named() -> None:
    for robust in (None, make(tolerate=2)):
        assert folded(robust, HONEST)[1] == ()


@pytest.mark.attack("hostile site", "claim a large weight, under a robust rule")
def test_a_claimed_weight_changes_nothing_and_a_site_without_rows_has_no_voice() -> None:
    expected, _ = folded(make(tolerate=2), HONEST)
    assert (folded(make(tolerate=2), HONEST, [2.0**53, 1, 5, 1, 1, 1, 1])[0] == expected).all()
    silent = np.concatenate([HONEST, np.zeros((1, 50), np.float32)])
    assert (folded(make(tolerate=2), silent, [1.0] * 7 + [0.0])[0] == expected).all()
    with pytest.raises(TaskError, match="no weight"):
        folded(make(tolerate=2), HONEST, [0.0] * 7)


def test_sites_without_rows_may_leave_too_few_for_the_rule() -> None:
    with pytest.raises(SpecError, match="tolerates 3 lying sites among 7 or more, and a round may have 6"):
        folded(make(tolerate=3), HONEST, [1.0] * 6 + [0.0])


def test_each_part_of_an_update_is_aggregated_and_one_broken_part_leaves_out_both() -> None:
    scaffold = algorithm_of(FederationSpec(algorithm="scaffold"))
    updates = {f"s{place}": (1.0, {"delta": HONEST[place].copy(), "control": -2 * HONEST[place]}) for place in range(7)}
    updates["s6"][1]["control"][0] = np.nan
    facts = RoundFacts(step=1, cohort=7, population=7)
    model, state = fold_arrays(scaffold, facts, updates, np.zeros(50, np.float32), robust=make(tolerate=1))
    assert model == pytest.approx(HONEST[:6].mean(axis=0), abs=1e-5)
    assert state["control"] == pytest.approx(-2 * HONEST[:6].mean(axis=0), abs=1e-5)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_algorithm_takes_what_a_rule_makes_as_if_it_were_the_mean(name: str) -> None:
    algorithm, facts = algorithm_of(FederationSpec(algorithm=name)), RoundFacts(step=1, cohort=7, population=7)
    parts = (*algorithm.weighted, *algorithm.uniform)
    liars = HONEST.copy()
    liars[0] *= -50
    lied = {f"s{place}": (1.0, dict.fromkeys(parts, liars[place])) for place in range(7)}
    aggregate = combined(make(tolerate=1), liars)
    start = np.ones(50, np.float32)
    expected, state = fold_arrays(algorithm, facts, {"a": (1.0, dict.fromkeys(parts, aggregate))}, start)
    model, after = fold_arrays(algorithm, facts, lied, start, robust=make(tolerate=1))
    assert model == pytest.approx(expected, abs=1e-5)
    for key, value in after.items():
        assert value == pytest.approx(state[key], abs=1e-4)


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("rule", ["trimmed-mean", "geometric-median"])
def test_narrow_blocks_give_what_the_whole_gives(rule: str, mixing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = combined(make(rule, 1, mixing), HONEST)
    monkeypatch.setattr(means, "STACK_BYTES", 7 * 4 * 3)
    monkeypatch.setattr(means, "BLOCK", 3)
    assert combined(make(rule, 1, mixing), HONEST) == pytest.approx(expected, abs=1e-6)


# ---- how many ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TooFew:
    rule: str
    mixing: str
    tolerate: int
    updates: int
    message: str
    hint: str


NEEDS = [
    TooFew("trimmed-mean", "none", 2, 4, "among 5 or more, and a round may have 4", "tolerate = 1, or let 1 more"),
    TooFew("median", "none", 1, 2, "among 3 or more, and a round may have 2", "let 1 more"),
    TooFew("centred-clipping", "none", 4, 8, "among 9 or more", "tolerate = 3, or let 1 more"),
    TooFew("geometric-median", "none", 4, 5, "among 9 or more", "tolerate = 2, or let 4 more"),
    TooFew("krum", "none", 2, 6, "among 7 or more", "tolerate = 1, or let 1 more"),
    TooFew("multi-krum", "none", 3, 5, "among 9 or more", "tolerate = 1, or let 4 more"),
    TooFew(
        "trimmed-mean", "nearest-neighbours", 2, 3, "mixing nearest-neighbours tolerates 2", "tolerate = 1, or let 2"
    ),
    # Two buckets of two and one of one are three rows: one may be spoilt.
    TooFew("trimmed-mean", "buckets", 2, 5, "mixing buckets tolerates 2 lying sites among 9", "tolerate = 1, or let 4"),
]


@pytest.mark.parametrize("case", NEEDS, ids=lambda case: f"{case.rule}-{case.mixing}-{case.tolerate}")
def test_too_few_updates_are_refused_with_the_smallest_change(case: TooFew) -> None:
    robust = make(case.rule, case.tolerate, case.mixing)
    with pytest.raises(SpecError) as caught:
        robust.require(case.updates)
    assert f"{case.rule}" in caught.value.message
    assert case.message in caught.value.message
    assert case.hint in caught.value.hint
    robust.require(least_updates(robust))


def test_more_updates_than_can_be_compared_in_pairs_are_refused() -> None:
    make(tolerate=1).require(10_000)
    for robust in (make("krum"), make(mixing="nearest-neighbours"), make(mixing="buckets")):
        with pytest.raises(SpecError, match="compares updates in pairs, 2048 at the most"):
            robust.require(2049)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (RobustSpec(tolerate=1, radius=1.0), "trimmed-mean has no radius"),
        (RobustSpec(tolerate=1, bucket=3), "mixing nearest-neighbours has no bucket"),
    ],
)
def test_a_key_without_a_use_is_refused(spec: RobustSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        robust_of(FederationSpec(robust=spec))
    assert caught.value.hint


def test_a_run_needs_sites_for_its_smallest_round() -> None:
    spec = RobustSpec(tolerate=2, mixing="none")
    assert least_sites(FederationSpec(robust=spec)) == 5
    assert least_sites(FederationSpec(robust=spec, min_sites=8)) == 8
    half = FederationSpec(robust=spec, cohort=0.5)
    assert least_sites(half) == 9, "a half of 9 is 5"
    quorum = FederationSpec(robust=spec, absent="quorum", quorum=0.6)
    assert least_sites(quorum) == 7, "0.6 of 7 is 5"
    for federation in (half, quorum):
        require_sites(federation, least_sites(federation))
        with pytest.raises(SpecError, match="a round may have 4"):
            require_sites(federation, least_sites(federation) - 1)


def test_mixings_are_what_their_port_says() -> None:
    mixings: list[Mixing | None] = [MIXINGS[name](RobustSpec(tolerate=1)) for name in MIXINGS]
    assert [None if one is None else one.name for one in mixings] == ["nearest-neighbours", "buckets", None]
