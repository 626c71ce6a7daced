"""How many neighbours and shares a session takes: published rows, the rule up to 64 sites, and a site's own word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.security.secagg import Assumptions, Policy, Reason, Shape, quorum_of, reason_of, shape_for
from archipel.security.secagg.parameters import require_strict, ring_shape
from archipel.spec import SecureAggregationError, SpecError

PUBLISHED = json.loads((Path(__file__).parent / "secagg_graph_parameters.json").read_text(encoding="utf-8"))
ROWS = [dict(zip(PUBLISHED["columns"], row, strict=True)) for row in PUBLISHED["rows"]]


def assumed(row: dict) -> Assumptions:
    # Without an adversary nobody is corrupt, and what is left is the question whether enough survive.
    adversary = "semi-malicious" if row["adversary"] == "SEMI_MALICIOUS_SERVER" else "curious"
    return Assumptions(corrupt=row["corrupt"], dropout=row["dropout"], adversary=adversary)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row["feasible"]], ids=lambda row: "-".join(str(value) for value in row.values())
)
def test_every_published_ring_is_found_again(row: dict) -> None:
    shape = ring_shape(row["sites"], assumed(row))
    assert shape.neighbours == row["neighbours"]
    assert shape.threshold <= row["threshold"]


@pytest.mark.parametrize("row", [row for row in ROWS if not row["feasible"]])
def test_every_published_infeasible_case_is_refused(row: dict) -> None:
    with pytest.raises(SpecError, match="no ring of") as caught:
        ring_shape(row["sites"], assumed(row))
    assert "assume fewer" in caught.value.hint


@pytest.mark.parametrize("sites", [3, 4, 64, 65, 100, 301])
def test_a_quorum_is_known_without_its_ring(sites: int) -> None:
    for assumptions in (Assumptions(), Assumptions(corrupt=0.05, dropout=0.2)):
        assert quorum_of(sites, assumptions) == shape_for(sites, assumptions).quorum


def test_the_table_is_whole() -> None:
    assert [sum(row["feasible"] is wanted for row in ROWS) for wanted in (True, False)] == [98, 6]


@pytest.mark.parametrize(
    ("sites", "corrupt", "dropout", "shape"),
    [
        (100, 0.05, 0.10, Shape(neighbours=26, threshold=16, quorum=90)),
        (100, 0.10, 0.10, Shape(neighbours=32, threshold=22, quorum=90)),
        (100, 0.10, 0.30, Shape(neighbours=72, threshold=42, quorum=70)),
        (1000, 0.10, 0.10, Shape(neighbours=96, threshold=67, quorum=900)),
        (1000, 0.20, 0.20, Shape(neighbours=302, threshold=206, quorum=800)),
    ],
)
def test_rings_against_a_semi_malicious_server(sites, corrupt, dropout, shape) -> None:
    assert shape_for(sites, Assumptions(corrupt=corrupt, dropout=dropout)) == shape


@given(st.integers(3, 64))
def test_up_to_64_sites_two_quorums_have_an_honest_site_in_common(sites: int) -> None:
    shape = shape_for(sites, Assumptions())
    corrupt = (sites - 1) // 3  # fewer than a third
    assert shape.neighbours == sites - 1
    assert 2 * shape.threshold - sites > corrupt
    assert corrupt < shape.threshold == shape.quorum <= sites


@pytest.mark.parametrize("sites", [0, 1, 2])
def test_fewer_than_three_sites_are_no_sum(sites: int) -> None:
    with pytest.raises(SpecError, match=f"of {sites} sites"):
        shape_for(sites, Assumptions())


@given(
    sites=st.integers(65, 400),
    corrupt=st.sampled_from([0.0, 0.05, 0.1]),
    dropout=st.sampled_from([0.0, 0.05, 0.1, 0.2]),
    adversary=st.sampled_from(["curious", "semi-malicious"]),
)
def test_a_site_agrees_to_what_is_found_for_its_own_policy(sites, corrupt, dropout, adversary) -> None:
    shape = shape_for(sites, Assumptions(corrupt=corrupt, dropout=dropout, adversary=adversary))
    require_strict(sites, shape, Policy(corrupt=corrupt, adversary=adversary))


RING = Shape(neighbours=26, threshold=16, quorum=90)


@pytest.mark.parametrize(
    ("sites", "shape", "reason"),
    [
        (10, Shape(neighbours=9, threshold=6, quorum=7), Reason.WEAK_TERMS),
        (10, Shape(neighbours=9, threshold=7, quorum=6), Reason.WEAK_TERMS),
        (10, Shape(neighbours=4, threshold=7, quorum=7), Reason.WEAK_TERMS),
        (10, Shape(neighbours=9, threshold=11, quorum=11), Reason.WEAK_TERMS),
        (2, Shape(neighbours=1, threshold=2, quorum=2), Reason.SMALL_COHORT),
        (1, Shape(neighbours=0, threshold=1, quorum=1), Reason.SMALL_COHORT),
        (10, Shape(neighbours=9, threshold=7, quorum=2), Reason.SMALL_COHORT),
        (100, Shape(neighbours=26, threshold=15, quorum=90), Reason.WEAK_TERMS),
        (100, Shape(neighbours=26, threshold=16, quorum=50), Reason.WEAK_TERMS),
        (100, Shape(neighbours=4, threshold=4, quorum=90), Reason.WEAK_TERMS),
        (100, Shape(neighbours=25, threshold=16, quorum=90), Reason.WEAK_TERMS),
        (100, Shape(neighbours=26, threshold=27, quorum=90), Reason.WEAK_TERMS),
        (100, Shape(neighbours=0, threshold=2, quorum=90), Reason.WEAK_TERMS),
        (100, Shape(neighbours=100, threshold=70, quorum=90), Reason.WEAK_TERMS),
    ],
)
def test_a_site_refuses_a_weaker_shape_by_name(sites: int, shape: Shape, reason: Reason) -> None:
    require_strict(100, RING, Policy())
    with pytest.raises(SecureAggregationError) as caught:
        require_strict(sites, shape, Policy())
    assert reason_of(caught.value) == reason


def test_a_site_agrees_to_a_stricter_shape() -> None:
    require_strict(100, shape_for(100, Assumptions(corrupt=0.2, dropout=0.2)), Policy())
    require_strict(10, Shape(neighbours=9, threshold=8, quorum=9), Policy())


def test_a_site_that_fears_more_refuses_what_is_found_for_less() -> None:
    with pytest.raises(SecureAggregationError, match="weak-terms"):
        require_strict(100, RING, Policy(corrupt=0.2))
    curious = shape_for(100, Assumptions(corrupt=0.05, dropout=0.1, adversary="curious"))
    with pytest.raises(SecureAggregationError, match="weak-terms"):
        require_strict(100, curious, Policy())
    with pytest.raises(SecureAggregationError, match="small-cohort"):
        require_strict(100, RING, Policy(min_sites=95))
