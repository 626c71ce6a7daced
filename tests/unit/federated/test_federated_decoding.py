"""Folding compressed updates: as if they had been sent whole, block by block; and whose file is at fault."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest

from archipel.data.compression.choice import codec_of
from archipel.data.compression.port import decoded
from archipel.data.stores.spool import Spool
from archipel.federated.algorithms import algorithm_of
from archipel.federated.clashes import require_compressed
from archipel.federated.contribution import NonFiniteUpdateError, ShapeUpdateError
from archipel.federated.faults import fault_of
from archipel.federated.fold import fold_arrays
from archipel.federated.folding import carry_out, rejection
from archipel.federated.port import Fold, RoundFacts
from archipel.federated.robust.robust import robust_of
from archipel.federated.stages import Stage
from archipel.spec import JobSpec, Part, SpecError, UnknownNameError, Update, manifest_of, pack, parse_header, unpack
from archipel.spec.compression import CompressionSpec
from archipel.spec.job import DataSpec, FederationSpec, PrivacySpec, RobustSpec, TaskSpec
from archipel.spec.privacy import CentralPrivacy, LocalPrivacy

SIDES = (300, 250)
COUNT = SIDES[0] * SIDES[1]
MODEL = manifest_of([("w", SIDES, np.dtype(np.float32))])
SITES = ("ann", "bob", "cid", "dot", "eve")
SPEC = CompressionSpec(kind="int8", rank=5, sites={"bob": "int4", "cid": "top-k", "dot": "low-rank", "eve": "none"})
FACTS = RoundFacts(step=1, cohort=5, population=5)


def delta_of(site: str) -> np.ndarray:
    return np.random.default_rng(SITES.index(site)).standard_normal(COUNT).astype(np.float32)


def sent_by(site: str, spec: CompressionSpec = SPEC) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What a site's file holds, and the vector it stands for."""
    codec, delta = codec_of(spec, site), delta_of(site)
    if codec is None:
        return {"w": delta.reshape(SIDES)}, delta
    tensors = codec.encode(delta, MODEL, np.random.default_rng(1))
    return tensors, decoded(codec, tensors, MODEL, delta)


def update(spool: Spool, site: str, tensors: dict[str, np.ndarray]) -> Update:
    data = pack(tensors)
    part = Part(blob=spool.put(data), manifest=parse_header(data)[0].digest, stands_for=MODEL.digest)
    return Update(run="r", round=2, site=site, kind="train", parts={"delta": part}, weight=1.0 + SITES.index(site))


def order(spool: Spool, updates: list[Update]) -> Fold:
    model = spool.put(pack({"w": np.ones(SIDES, np.float32)}))
    return Fold(round=2, kind="train", updates=tuple(updates), model=model, state=None, facts=FACTS)


def folded(spool: Spool, updates: list[Update], federation: FederationSpec) -> np.ndarray:
    result = carry_out(order(spool, updates), federation, spool)
    assert result.model is not None
    return unpack(spool.view(result.model.digest))["w"].ravel()


@pytest.mark.parametrize("robust", [None, RobustSpec(rule="median", tolerate=1, mixing="none"), RobustSpec(tolerate=1)])
@pytest.mark.parametrize("algorithm", ["fedavg", "fedadam"])
def test_updates_of_every_kind_are_folded_as_what_they_stand_for(tmp_path: Path, robust, algorithm):
    spool = Spool(tmp_path)
    federation = FederationSpec(algorithm=algorithm, compression=SPEC, robust=robust)
    whole = {site: (1.0 + place, {"delta": sent_by(site)[1]}) for place, site in enumerate(SITES)}
    expected, _ = fold_arrays(
        algorithm_of(federation), FACTS, whole, np.ones(COUNT, np.float32), robust=robust_of(federation)
    )
    found = folded(spool, [update(spool, site, sent_by(site)[0]) for site in SITES], federation)
    assert found.tobytes() == expected.tobytes()


def test_memory_does_not_grow_with_the_sites(tmp_path: Path):
    spool = Spool(tmp_path)
    spec = CompressionSpec(kind="top-k")
    federation = FederationSpec(compression=spec)

    def peak(count: int) -> int:
        one = update(spool, "ann", sent_by("ann", spec)[0])
        updates = [msgspec.structs.replace(one, site=f"s{place}") for place in range(count)]
        tracemalloc.start()
        folded(spool, updates, federation)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    assert peak(40) - peak(2) < 40 * COUNT // 4, "a quarter byte a value and site: no update is held"


def changed(name: str, place, value):
    def change(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = {key: part.copy() for key, part in tensors.items()}
        tensors[name].reshape(-1)[place] = value
        return tensors

    return change


LIES = {
    "a level beyond the highest": ("ann", changed("levels", COUNT - 1, 255), ShapeUpdateError),
    "an infinite scale": ("bob", changed("scales", -1, np.inf), NonFiniteUpdateError),
    "more columns than values": ("cid", changed("bits", slice(0, 9), 255), ShapeUpdateError),
    "a factor that is no number": ("dot", changed("left/w", 0, np.nan), NonFiniteUpdateError),
    "factors whose product overflows": (
        "dot",
        lambda tensors: {name: np.full_like(part, 1e38) for name, part in tensors.items()},
        NonFiniteUpdateError,
    ),
    "fewer levels": ("ann", lambda tensors: {**tensors, "levels": tensors["levels"][1:]}, ShapeUpdateError),
    "levels of another kind": ("ann", lambda tensors: {**tensors, "levels": tensors["levels"] / 1.0}, ShapeUpdateError),
    "no scales": ("bob", lambda tensors: {"levels": tensors["levels"]}, ShapeUpdateError),
    "the delta itself": ("cid", lambda _: {"w": delta_of("cid").reshape(SIDES)}, ShapeUpdateError),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_no_codec_writes_is_its_sites_fault_and_the_others_are_folded(tmp_path: Path, lie):
    site, change, error = LIES[lie]
    spool, federation = Spool(tmp_path), FederationSpec(compression=SPEC)
    updates = [update(spool, one, sent_by(one)[0]) for one in SITES if one != site]
    spoilt = update(spool, site, change(sent_by(site)[0]))
    with pytest.raises(error) as caught:
        carry_out(order(spool, [*updates, spoilt]), federation, spool)
    assert caught.value.site == site
    assert site in caught.value.message
    refusal = rejection(order(spool, [spoilt]), caught.value).refusal
    assert (refusal.site, refusal.error) == (site, error.kind)
    assert np.isfinite(folded(spool, updates, federation)).all()


def test_bytes_that_are_no_tensors_are_their_sites_fault(tmp_path: Path):
    spool, federation = Spool(tmp_path), FederationSpec(compression=SPEC)
    one = update(spool, "ann", sent_by("ann")[0])
    junk = msgspec.structs.replace(one.parts["delta"], blob=spool.put(b"no tensors"))
    spoilt = msgspec.structs.replace(one, parts={"delta": junk})
    with pytest.raises(ShapeUpdateError, match="update of ann"):
        carry_out(order(spool, [spoilt]), federation, spool)


def test_an_update_of_another_model_is_refused_before_it_counts(tmp_path: Path):
    spool, stage = Spool(tmp_path), Stage(kind="train", step=1)
    one = update(spool, "ann", sent_by("ann")[0])
    federation = FederationSpec(compression=SPEC)
    assert fault_of(one, stage, algorithm_of(federation), MODEL.digest) is None
    fault = fault_of(one, stage, algorithm_of(federation), manifest_of([]).digest)
    assert fault is not None
    assert "ann" in fault.message


# ---- what does not go together -------------------------------------------------------------------------------------


def job(compression: CompressionSpec | None = SPEC, privacy: PrivacySpec | None = None, **federation) -> JobSpec:
    return JobSpec(
        name="birds",
        task=TaskSpec(code="task.py:Birds"),
        data=DataSpec(dataset="birds"),
        federation=FederationSpec(compression=compression, **federation),
        privacy=privacy or PrivacySpec(),
    )


CENTRAL = PrivacySpec(statistics=False, central=CentralPrivacy(clip_norm=1.0, noise_multiplier=1.0))
LOCAL = PrivacySpec(statistics=False, local=LocalPrivacy(clip_norm=1.0, noise_multiplier=1.0))
CLASHES = {
    "secure aggregation": job(privacy=PrivacySpec(secure_aggregation="secagg"), min_sites=3),
    "scaffold": job(algorithm="scaffold"),
    "[privacy.central]": job(privacy=CENTRAL, weighting="uniform"),
    "auto": job(CompressionSpec(kind="auto")),
}


@pytest.mark.parametrize("name", CLASHES)
def test_what_does_not_go_with_compressed_updates_is_refused_by_name_and_with_a_way_out(name):
    with pytest.raises(SpecError) as caught:
        require_compressed(CLASHES[name])
    assert name in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "fits",
    [
        job(None, PrivacySpec(secure_aggregation="secagg"), min_sites=3),
        job(None, algorithm="scaffold"),
        job(CompressionSpec(kind="int4"), CENTRAL, weighting="uniform"),
        job(privacy=LOCAL, weighting="uniform"),
        job(robust=RobustSpec(tolerate=1)),
    ],
    ids=["no compression under secagg", "none with scaffold", "int4 and central", "all and local", "robust"],
)
def test_what_does_go_is_let_through(fits):
    require_compressed(fits, SITES)


def test_a_site_nobody_knows_is_refused_with_the_nearest_one():
    with pytest.raises(UnknownNameError) as caught:
        require_compressed(job(CompressionSpec(sites={"amn": "int4"})), SITES)
    assert "ann" in caught.value.hint
