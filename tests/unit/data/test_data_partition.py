"""Cutting a data set: every row once, the same for the same seed, skewed as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data.partition import by_key, dirichlet, quantity_skew, shards
from archipel.spec import DataError

LABELS = np.repeat([0, 1, 2], [300, 200, 100])


def cuts(seed):
    return {
        "dirichlet": dirichlet(LABELS, 8, alpha=0.5, seed=seed),
        "shards": shards(LABELS, 8, shards_per_part=2, seed=seed),
        "quantity": quantity_skew(600, 8, alpha=0.5, seed=seed, min_rows=5),
    }


@given(seed=st.integers(0, 2**32))
def test_every_row_is_in_exactly_one_part(seed):
    for name, parts in cuts(seed).items():
        together = np.sort(np.concatenate(parts))
        assert together.tolist() == list(range(600)), name
        assert all((np.diff(part) > 0).all() for part in parts), name


@given(seed=st.integers(0, 2**32))
def test_the_same_seed_cuts_the_same_parts(seed):
    again = cuts(seed)
    for name, parts in cuts(seed).items():
        assert [part.tolist() for part in parts] == [part.tolist() for part in again[name]]


def test_another_seed_cuts_other_parts():
    one, two = cuts(1), cuts(2)
    assert all([p.tolist() for p in one[name]] != [p.tolist() for p in two[name]] for name in one)


def test_a_key_makes_one_part_a_value():
    parts = by_key(["b", "a", "b", "c"])
    assert {name: rows.tolist() for name, rows in parts.items()} == {"a": [1], "b": [0, 2], "c": [3]}


def largest_share(parts):
    return np.mean([np.bincount(LABELS[part]).max() / len(part) for part in parts])


def test_a_small_alpha_skews_labels_more():
    shares = [
        np.mean([largest_share(dirichlet(LABELS, 5, alpha=alpha, seed=seed)) for seed in range(20)])
        for alpha in (0.1, 1.0, 100.0)
    ]
    assert shares[0] > shares[1] > shares[2]
    assert shares[2] == pytest.approx(0.5, abs=0.05)


def test_two_shards_hold_few_labels():
    for part in shards(LABELS, 12, shards_per_part=1, seed=0):
        assert len(np.unique(LABELS[part])) == 1
        assert len(part) == 50


def test_quantity_skew_keeps_the_least_size():
    sizes = [len(part) for part in quantity_skew(100, 10, alpha=0.05, seed=3, min_rows=4)]
    assert min(sizes) >= 4
    assert max(sizes) > 20


@pytest.mark.parametrize(
    "cut",
    [
        lambda: dirichlet(LABELS, 601, alpha=1.0, seed=0),
        lambda: dirichlet(LABELS, 100, alpha=0.001, seed=0),
        lambda: dirichlet(LABELS, 4, alpha=0.0, seed=0),
        lambda: dirichlet(LABELS, 4, alpha=float("nan"), seed=0),
        lambda: shards(LABELS, 400, shards_per_part=2, seed=0),
        lambda: quantity_skew(10, 0, alpha=1.0, seed=0),
        lambda: quantity_skew(10, 4, alpha=1.0, seed=0, min_rows=3),
    ],
)
def test_what_cannot_be_cut_is_refused(cut):
    with pytest.raises(DataError) as caught:
        cut()
    assert caught.value.hint
