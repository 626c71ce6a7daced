"""Scores of a report, held against numbers worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.control.services.rounds.scores import Tables, added, by_model


def sums(**models: tuple[int, int]) -> dict[str, Any]:
    """Sums of one site: model → (rows, right)."""
    found: dict[str, Any] = {}
    for name, (rows, right) in models.items():
        model = name.replace("__", "/")
        found[f"{model}|classification.examples"] = np.array(float(rows))
        found[f"{model}|classification.correct"] = np.array(float(right))
        found[f"{model}|classification.log_loss"] = np.array(0.25 * rows)
    return found


CROSS = Tables.of(
    {
        # On a's 10 rows: a's own model gets 9 right, b's 4. On b's 30 rows: a's gets 12, b's 27.
        "a": sums(federated=(10, 8), alone__a=(10, 9), alone__b=(10, 4)),
        "b": sums(federated=(30, 24), alone__a=(30, 12), alone__b=(30, 27)),
    }
)


def test_own_is_each_row_scored_by_its_own_sites_model() -> None:
    assert CROSS.at("a")["alone"].own == {"examples": 10.0, "accuracy": 0.9, "log_loss": 0.25}
    overall = CROSS.overall()["alone"].own
    assert overall is not None
    assert overall["accuracy"] == pytest.approx((9 + 27) / 40)


def test_everyone_is_a_sites_model_on_all_rows_averaged_over_sites_by_their_rows() -> None:
    at_a, at_b = CROSS.at("a")["alone"].everyone, CROSS.at("b")["alone"].everyone
    assert at_a is not None
    assert at_b is not None
    assert at_a["accuracy"] == pytest.approx((9 + 12) / 40)
    assert at_b["accuracy"] == pytest.approx((4 + 27) / 40)
    overall = CROSS.overall()["alone"].everyone
    assert overall is not None
    assert overall["accuracy"] == pytest.approx((10 * 21 / 40 + 30 * 31 / 40) / 40)
    assert overall["examples"] == 40.0


def test_for_the_shared_model_everyone_and_own_are_the_same_overall() -> None:
    overall = CROSS.overall()["federated"]
    assert overall.everyone is not None
    assert overall.own is not None
    assert overall.everyone["accuracy"] == pytest.approx(overall.own["accuracy"])
    assert overall.own["accuracy"] == pytest.approx(32 / 40)


def test_a_model_the_others_did_not_see_has_no_score_on_everyones_rows() -> None:
    tables = Tables.of({"a": sums(federated=(10, 8), alone__a=(10, 9)), "b": sums(federated=(30, 24))})
    assert tables.at("a")["alone"].everyone is None
    assert tables.at("a")["alone"].own is not None
    assert "alone" not in tables.at("b")
    assert tables.overall()["alone"].everyone is None


def test_a_site_without_test_rows_weighs_nothing() -> None:
    tables = Tables.of({"a": sums(federated=(10, 8)), "b": sums(federated=(0, 0))})
    assert tables.test_rows("b") == 0
    overall = tables.overall()["federated"]
    assert overall.own is not None
    assert overall.own["accuracy"] == 0.8


def test_before_any_evaluation_there_are_no_scores() -> None:
    tables = Tables.of({})
    assert (tables.kinds, tables.overall(), tables.at("a"), tables.test_rows("a")) == ((), {}, {}, 0)


def test_a_models_name_may_hold_a_bar() -> None:
    assert by_model({"alone/x|y|mean.examples": np.array(1.0)}).keys() == {"alone/x|y"}


@given(st.lists(st.dictionaries(st.sampled_from("uvw"), st.floats(-1e6, 1e6)), max_size=6))
def test_adding_sums_is_adding_each_name(parts: list[dict[str, float]]) -> None:
    total = added([{name: np.array(value) for name, value in part.items()} for part in parts])
    for name in "uvw":
        values = [part[name] for part in parts if name in part]
        if values:
            assert float(total[name]) == pytest.approx(sum(values))
        else:
            assert name not in total
