"""Shamir's shares: a published answer, a hand-made one, and the two laws: enough give the secret, fewer say nothing."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.security.secagg.recovery import recover
from archipel.security.secagg.shamir import PRIME, evaluate, join, share_bytes, split, uniform_elements, weights_at

# google/federated-compute, shamir_secret_sharing_test.cc, ReconstructWorksWithPrecomputedShares: 3 of 5.
PUBLISHED = {
    1: bytes([112, 207, 118, 46, 110, 212, 170, 28]),
    2: bytes([48, 160, 197, 172, 38, 235, 145, 204]),
    3: bytes([63, 115, 238, 144, 40, 68, 183, 71]),
    4: bytes([29, 72, 240, 207, 114, 224, 26, 141]),
    5: bytes([74, 31, 204, 116, 6, 189, 187, 136]),
}


@pytest.mark.parametrize("points", list(itertools.combinations(PUBLISHED, 3)))
def test_published_shares_give_the_published_secret(points: tuple[int, ...]) -> None:
    assert join({point: PUBLISHED[point] for point in points}, size=4) == bytes([0, 0, 0, 33])


def test_a_line_through_the_secret_is_evaluated_and_met_again_by_hand() -> None:
    # f(x) = 5 + 3x over the field of 7: f(1) = 1, f(2) = 4, f(3) = 0; at 0 the points 1 and 3 weigh 5 and 3.
    assert evaluate(np.array([[5], [3]], np.uint64), [1, 2, 3], prime=7).ravel().tolist() == [1, 4, 0]
    assert weights_at([1, 3], 0, prime=7) == [5, 3]
    assert (5 * 1 + 3 * 0) % 7 == 5


@given(
    secret=st.binary(min_size=1, max_size=40),
    key=st.binary(min_size=32, max_size=32),
    shape=st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    data=st.data(),
)
def test_any_threshold_of_the_shares_give_the_secret(secret, key, shape, data) -> None:
    holders, threshold = shape
    shares = split(secret, holders=holders, threshold=threshold, key=key)
    assert {len(share) for share in shares} == {share_bytes(len(secret))}
    points = data.draw(st.permutations(range(1, holders + 1)))[: data.draw(st.integers(threshold, holders))]
    assert join({point: shares[point - 1] for point in points}, size=len(secret)) == secret


@pytest.mark.parametrize("points", [(1, 2), (1, 3), (2, 4)])
def test_one_share_less_than_the_threshold_has_the_same_distribution_for_every_secret(points) -> None:
    """Threshold 3 over the field of 5: every pair of values is seen once, whatever the secret."""
    seen = []
    for secret in range(5):
        polynomials = [np.array([[secret], [a], [b]], np.uint64) for a in range(5) for b in range(5)]
        seen.append(Counter(tuple(evaluate(one, points, prime=5).ravel().tolist()) for one in polynomials))
    assert all(pairs == seen[0] for pairs in seen)
    assert set(seen[0].values()) == {1}
    assert len(seen[0]) == 25


def test_coefficients_are_below_the_prime_and_spread_over_the_field() -> None:
    drawn = uniform_elements(bytes(range(32)), 40_000)
    assert int(drawn.max()) < PRIME
    counts = np.bincount((drawn * np.uint64(16) // np.uint64(PRIME)).astype(int), minlength=16)
    chi_squared = float(((counts - 2500) ** 2 / 2500).sum())
    assert chi_squared < 37.7  # 15 degrees of freedom, chance 0.001; the key is fixed, so is the figure


def test_another_key_gives_other_shares_of_the_same_secret() -> None:
    first, second = (split(b"secret", holders=5, threshold=3, key=bytes([key]) * 32) for key in (1, 2))
    assert not set(first) & set(second)


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ({}, "points"),
        ({0: PUBLISHED[1]}, "points"),
        ({1: PUBLISHED[1][:4]}, "8 bytes, not 4"),
        ({1: b"\xff" * 8}, "outside the field"),
        ({1: PUBLISHED[1], 2: PUBLISHED[2]}, "do not belong together"),
    ],
)
def test_shares_that_make_no_secret_are_refused(shares, why) -> None:
    with pytest.raises(ValueError, match=why):
        join(shares, size=4)


@pytest.mark.parametrize("threshold", [0, 6])
def test_a_threshold_outside_the_holders_is_refused(threshold: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        split(b"secret", holders=5, threshold=threshold, key=bytes(32))


def _shares(holders: int, threshold: int, liars: set[int]) -> dict[int, bytes]:
    shares = dict(enumerate(split(b"k" * 32, holders=holders, threshold=threshold, key=bytes(32)), start=1))
    return {point: bytes(36) if point in liars else share for point, share in shares.items()}


@pytest.mark.parametrize(
    ("holders", "threshold", "liars"), [(9, 7, {1}), (9, 7, {1, 9}), (9, 7, {4, 5}), (26, 16, {3}), (26, 16, {3, 4})]
)
def test_a_secret_is_found_in_spite_of_liars_and_they_are_named(holders, threshold, liars) -> None:
    shares = _shares(holders, threshold, liars)
    found = recover(shares, threshold=threshold, size=32, accept=lambda secret: secret == b"k" * 32)
    assert found is not None
    assert found.secret == b"k" * 32
    assert set(found.untrue) == liars


def test_with_more_liars_than_spare_shares_no_secret_is_found() -> None:
    assert recover(_shares(9, 7, {1, 2, 3}), threshold=7, size=32, accept=lambda secret: secret == b"k" * 32) is None
    assert recover({1: bytes(36)}, threshold=2, size=32, accept=lambda _: True) is None
