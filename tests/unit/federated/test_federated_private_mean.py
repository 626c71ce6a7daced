"""The private mean: a fixed divisor, noise that a fold repeats and nobody else has, the same in blocks and whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from archipel.data.stores.spool import Spool
from archipel.federated.algorithms import algorithm_of
from archipel.federated.blocks import ArrayBlocks
from archipel.federated.contribution import Contribution
from archipel.federated.coordinator import Coordinator
from archipel.federated.fold import fold
from archipel.federated.folding import carry_out
from archipel.federated.means import BLOCK
from archipel.federated.port import Fold, RoundFacts
from archipel.federated.private_mean import WITHIN_CLIP, Noising, PrivateMean
from archipel.security.privacy import NoiseStream, next_clip, seeded_secret
from archipel.spec import Blob, Part, SpecError, Update, digest_of, encode, pack, parse_header, unpack
from archipel.spec.job import FederationSpec, job_from
from archipel.spec.privacy import AdaptiveClip, CentralPrivacy

SECRET = seeded_secret(3)
CENTRAL = CentralPrivacy(clip_norm=2.0, noise_multiplier=0.5)
ADAPTIVE = CentralPrivacy(clip_norm=2.0, noise_multiplier=0.5, adaptive=AdaptiveClip(count_noise=1.0))
FEDERATION = FederationSpec(weighting="uniform", cohort=0.5)


def folded(updates: dict[str, np.ndarray], step: int = 1, cohort: float = 4.0) -> np.ndarray:
    private = PrivateMean(CENTRAL, SECRET, step=step, cohort=cohort, clip_norm=2.0)
    size = len(next(iter(updates.values())))
    target = {"model": np.zeros(size, np.float32)}
    fold(
        algorithm_of(FEDERATION),
        RoundFacts(step=step, cohort=len(updates), population=8),
        [Contribution(site=site, weight=9.0, parts=ArrayBlocks({"delta": delta})) for site, delta in updates.items()],
        model_in=ArrayBlocks({"model": np.zeros(size, np.float32)}),
        state_in=None,
        model_out=ArrayBlocks(target),
        state_out=None,
        private=private,
    )
    return target["model"]


def test_the_sum_is_divided_by_the_expected_cohort_whoever_came_and_whatever_they_weigh() -> None:
    ones = {"a": np.ones(3, np.float32), "b": np.full(3, 2, np.float32)}
    noise = NoiseStream(SECRET, "update", 1).standard(0, 3) * (0.5 * 2.0 / 4)
    assert folded(ones) == pytest.approx(3 / 4 + noise, abs=1e-6)
    assert folded({"a": ones["a"]}) == pytest.approx(1 / 4 + noise, abs=1e-6)


def test_blocks_have_the_noise_of_their_own_columns() -> None:
    whole = folded({"a": np.zeros(BLOCK + 5, np.float32)})
    noise = NoiseStream(SECRET, "update", 1).standard(0, BLOCK + 5) * 0.25
    assert whole == pytest.approx(noise, abs=1e-6)


def test_with_bands_a_round_takes_back_a_part_of_the_noise_of_the_rounds_before_it() -> None:
    fresh = [NoiseStream(SECRET, "update", step).standard(2, 3) for step in (1, 2, 3)]
    expected = {1: fresh[0], 2: fresh[1] - fresh[0] / 2, 3: fresh[2] - fresh[1] / 2}
    for step, noise in expected.items():
        private = PrivateMean(CENTRAL, SECRET, step=step, cohort=4.0, clip_norm=2.0, bands=2)
        assert private.noisy(np.zeros(3), start=2) == pytest.approx(noise * (0.5 * 2.0 / 4), abs=1e-8)


def test_rounds_have_noise_of_their_own() -> None:
    zero = {"a": np.zeros(4, np.float32)}
    assert not np.array_equal(folded(zero, step=1), folded(zero, step=2))


def order(spool: Spool, clip_norm: float | None = None) -> Fold:
    model = spool.put(pack({"w": np.zeros(5, np.float32)}))
    updates = []
    for index, site in enumerate("ab"):
        data = pack({"w": np.full(5, index + 1, np.float32)})
        part = Part(blob=spool.put(data), manifest=parse_header(data)[0].digest)
        metrics = {WITHIN_CLIP: float(index)}
        updates.append(Update(run="r", round=2, site=site, kind="train", parts={"delta": part}, metrics=metrics))
    facts = RoundFacts(step=1, cohort=2, population=4)
    return Fold(
        round=2, kind="train", updates=tuple(updates), model=model, state=None, facts=facts, clip_norm=clip_norm
    )


REPEATED = """
import sys
from pathlib import Path
from archipel.data.stores.spool import Spool
from archipel.spec import encode
from unit.federated.test_federated_private_mean import ADAPTIVE, FEDERATION, SECRET, carry_out, order, Noising
spool = Spool(Path(sys.argv[1]))
noising = Noising(central=ADAPTIVE, secret=SECRET)
print(encode(carry_out(order(spool, 3.0), FEDERATION, spool, noising=noising)).decode())
"""


@pytest.mark.attack("crash", "draw noise twice for one sum", result="survived")
def test_a_fold_that_is_repeated_after_a_crash_adds_the_same_noise_and_moves_the_clip_norm_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    noising = Noising(central=ADAPTIVE, secret=SECRET)
    first = carry_out(order(spool, 3.0), FEDERATION, spool, noising=noising)
    assert carry_out(order(spool, 3.0), FEDERATION, spool, noising=noising) == first
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    command = [sys.executable, "-c", REPEATED, str(tmp_path / "other")]
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.strip() == encode(first).decode()
    # One of two was within 3.0, of a cohort of two: the share is a half, but for its noise.
    noise = float(NoiseStream(SECRET, "count", 1).standard(0, 1)[0])
    assert first.clip_norm == pytest.approx(next_clip(AdaptiveClip(), 3.0, 0.5 + noise / 2), rel=1e-6)
    other = carry_out(order(spool, 3.0), FEDERATION, spool, noising=Noising(central=ADAPTIVE, secret=seeded_secret(4)))
    assert other.model != first.model


def test_without_noising_a_fold_is_what_it_was(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(Exception, match="no weight"):
        carry_out(order(spool), FEDERATION, spool)
    plain = carry_out(order(spool), FEDERATION, spool, noising=Noising(central=CENTRAL, secret=SECRET))
    assert plain.clip_norm is None
    assert plain.model is not None
    assert unpack(spool.require(plain.model.digest).read_bytes())["w"].dtype == np.float32


def test_a_coordinator_refuses_a_job_that_would_not_keep_its_promise() -> None:
    job = job_from(
        {
            "name": "a",
            "task": {"code": "t.py:T"},
            "data": {"dataset": "d"},
            "privacy": {"statistics": False, "central": {"clip_norm": 1.0, "noise_multiplier": 1.0}},
        }
    )
    with pytest.raises(SpecError, match="weights by examples"):
        Coordinator("r", job, Blob(digest=digest_of(b""), size_bytes=0), ["a", "b"])
