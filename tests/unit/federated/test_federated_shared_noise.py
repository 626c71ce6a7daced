"""Noise inside of a secure sum: what one site moves it by is bounded in whole steps, and the sum has all the noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.federated.port import Finish, GiveUp
from archipel.federated.secure.shared_noise import SharedNoise, widest
from archipel.security.privacy import DiscreteGaussian, Gaussian, NoiseStream, Repeated, epsilon_of, releases_of
from archipel.security.privacy.accounting import delta_of
from archipel.spec import SpecError, unpack
from archipel.spec.privacy import DistributedPrivacy
from secure import HELPER, WITH_HELPER, SecureParty, secure_job
from unit.control.control_sites import entropy

SITES = ("ann", "bob", "cid", "dot")
QUORUM = 3
"""Of four sites."""
CLIP, NOISE = 0.5, 2.0
STEP = 2.0**-26
SIZE = 40_000


def noise(deviation: float = 1.0, secret: bytes = bytes(32), clip_norm: float = CLIP) -> SharedNoise:
    return SharedNoise(clip_norm=clip_norm, deviation=deviation, stream=NoiseStream(secret, "update"))


def noisy_job(**tables: Any) -> Any:
    distributed = {"clip_norm": CLIP, "noise_multiplier": NOISE}
    privacy = {"statistics": False, "distributed": distributed, **tables.pop("privacy", {})}
    federation = {"rounds": 1, "weighting": "uniform", **tables.pop("federation", {})}
    return secure_job(privacy=privacy, federation=federation, **tables)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40), st.floats(0.01, 10.0))
def test_what_a_site_moves_the_sum_by_is_within_the_clip_norm_in_whole_steps(values: list[float], clip: float) -> None:
    update = np.array(values, np.float32)
    one, other = (noise(clip_norm=clip).on(given, step=STEP, share=0.25) for given in (update, 0 * update))
    moved = (one - other) / STEP
    assert np.array_equal(moved, np.rint(moved))
    assert math.sqrt(float(np.sum(np.square(moved)))) <= 0.25 * clip / STEP


def test_an_update_within_the_clip_norm_is_only_rounded() -> None:
    update = np.array([0.1, -0.2, 0.3], np.float32)
    moved = noise().on(update, step=STEP, share=1.0) - noise().on(0 * update, step=STEP, share=1.0)
    assert np.max(np.abs(moved - update)) <= STEP / 2


def test_a_share_of_noise_is_normal_and_whole_and_another_secret_gives_another() -> None:
    found = noise(0.25).on(np.zeros(10**6), step=STEP, share=1.0)
    assert np.array_equal(found / STEP, np.rint(found / STEP))
    assert abs(found.mean()) < 0.25 * 4e-3
    assert found.var() == pytest.approx(0.25**2, rel=5e-3)
    assert (found**4).mean() == pytest.approx(3 * 0.25**4, rel=2e-2)
    other = noise(0.25, secret=b"\1" * 32).on(np.zeros(10**6), step=STEP, share=1.0)
    assert abs(np.corrcoef(found, other)[0, 1]) < 4e-3


def test_steps_that_are_too_coarse_are_refused_with_what_to_change() -> None:
    with pytest.raises(SpecError, match="noise of 512 steps is too fine") as caught:
        noise(1.0).on(np.zeros(3), step=2.0**-9, share=1.0)
    assert "noise_multiplier" in caught.value.hint
    with pytest.raises(SpecError, match="lost in the rounding of 40000 elements") as caught:
        noise(clip_norm=100.0).on(np.zeros(SIZE), step=1.0, share=1.0)
    assert "clip_norm" in caught.value.hint


def test_those_who_may_collude_do_not_count_and_all_of_them_are_refused() -> None:
    def share(colluding: int) -> float:
        asked = DistributedPrivacy(clip_norm=CLIP, noise_multiplier=NOISE, colluding=colluding)
        return SharedNoise.of(asked, 4, NoiseStream(bytes(32), "update")).deviation

    assert share(0) == CLIP * NOISE / 2
    assert share(3) == CLIP * NOISE
    with pytest.raises(SpecError, match="colluding = 4, and 4 sites are enough"):
        share(4)


def test_the_mean_has_the_noise_of_all_shares_over_clipped_updates(tmp_path: Path) -> None:
    party = SecureParty(tmp_path, SITES, size=SIZE)
    start, end = model_before_and_after(party, noisy_job())
    # A share is for three sites, the fewest whose sum can be opened; four are in this one. An update of the tests has
    # 0.1 on each of 40,000 elements, so it is clipped to a fortieth, which drowns in the noise.
    expected = CLIP * NOISE * math.sqrt(len(SITES) / QUORUM) / len(SITES)
    assert np.std(end - start) == pytest.approx(expected, rel=2e-2)
    assert abs(np.mean(end - start)) < 5 * expected / math.sqrt(SIZE)


def test_with_a_helper_a_share_is_for_the_fewest_sites_that_it_opens_a_sum_over(tmp_path: Path) -> None:
    """Four sites and a run that waits for all: the sum has what was asked for, and no more."""
    party = SecureParty(tmp_path, (*SITES, HELPER), size=SIZE)
    start, end = model_before_and_after(party, noisy_job(privacy=WITH_HELPER))
    expected = CLIP * NOISE / len(SITES)
    assert np.std(end - start) == pytest.approx(expected, rel=2e-2)
    assert abs(np.mean(end - start)) < 5 * expected / math.sqrt(SIZE)


def test_with_next_to_no_noise_the_mean_is_that_of_clipped_updates(tmp_path: Path) -> None:
    quiet = {"distributed": {"clip_norm": CLIP, "noise_multiplier": 1e-4}}
    party = SecureParty(tmp_path, SITES, size=50)
    start, end = model_before_and_after(party, noisy_job(privacy=quiet))
    updates = [0.1 * entropy(site, 1).normal(size=50) - 0.01 * start for site in SITES]
    norms = [np.linalg.norm(update) for update in updates]
    assert min(norms) > CLIP, "each is clipped"
    mean = sum(update * (CLIP / norm) for update, norm in zip(updates, norms, strict=True)) / len(SITES)
    assert np.max(np.abs(end - start - mean)) < 6 * CLIP * 1e-4


def test_a_run_of_too_few_for_those_who_may_collude_ends_with_what_to_change(tmp_path: Path) -> None:
    asked = {"distributed": {"clip_norm": CLIP, "noise_multiplier": NOISE, "colluding": QUORUM}}
    end = (party := SecureParty(tmp_path, SITES)).drive(party.coordinator(noisy_job(privacy=asked)))
    assert isinstance(end, GiveUp)
    assert "colluding = 3" in end.message


def test_it_costs_what_gaussian_noise_costs_by_renyi_divergences_whoever_is_asked() -> None:
    shared, central = (Repeated(event=kind(noise_multiplier=NOISE), times=10) for kind in (DiscreteGaussian, Gaussian))
    by_rdp = epsilon_of(central, delta=1e-5, accountant="rdp")
    assert epsilon_of(shared, delta=1e-5) == epsilon_of(shared, delta=1e-5, accountant="rdp") == by_rdp
    assert epsilon_of(central, delta=1e-5) < by_rdp
    assert delta_of(shared, epsilon=by_rdp) == pytest.approx(1e-5, rel=1e-6)
    releases = releases_of(noisy_job(federation={"rounds": 10}))
    assert releases is not None
    promised = releases.guarantee(10)
    assert (promised.epsilon, promised.accountant, promised.trusted) == (by_rdp, "rdp", "nobody")
    assert promised.unit == "site"


def test_there_is_room_for_the_noise_of_one_site_alone() -> None:
    asked = DistributedPrivacy(clip_norm=CLIP, noise_multiplier=NOISE)
    assert widest(asked) == CLIP * (1 + 12 * NOISE)


def model_before_and_after(party: SecureParty, job: Any) -> tuple[np.ndarray, np.ndarray]:
    end = party.drive(party.coordinator(job))
    assert isinstance(end, Finish), end
    first = entropy("initialise", job.federation.seed).normal(size=party.size).astype(np.float32)
    return first.astype(np.float64), unpack(party.spool.require(end.model.digest).read_bytes())["w"].astype(np.float64)
