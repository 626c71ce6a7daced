"""Virtual clients against sites: the same rows under the same names give the same model, by whatever executor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from archipel.data.bundle import pack_bundle
from archipel.data.site_data import SiteData
from archipel.simulation import Simulation
from archipel.simulation.clock.opening import open_devices
from archipel.simulation.population.partitions import open_population
from archipel.simulation.virtual import VirtualRun
from archipel.spec import JobSpec, NonFiniteError, SpecError, digest_of
from archipel.spec.job import job_from
from archipel.tasks.executors import offered, open_executor
from archipel.tasks.load import load_task, open_adapter
from archipel.tasks.port import Adapter

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

SIZES = {"east": 23, "north": 40, "south": 7, "west": 64}
TASK = """
import numpy as np
from torch import nn

from archipel.tasks.port import Split
from archipel.tasks.torch import TorchTask


class Points(TorchTask):
    classes = ("a", "b", "c")
    features = ("x",)
    label = "y"

    def read(self, site, statistics):
        found = np.load(site.path / "points.npz")
        rows = {name: found[name] for name in found}
        return Split(train=rows, test={name: array[:30] for name, array in rows.items()})

    def model(self, statistics):
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
"""

JAX_TASK = """
import jax
import numpy as np

from archipel.tasks.jax import JaxTask, Split


class Points(JaxTask):
    classes, features, label = ("a", "b", "c"), ("x",), "y"

    def read(self, site, statistics):
        found = np.load(site.path / "points.npz")
        rows = {name: found[name] for name in found}
        return Split(train=rows, test={name: array[:30] for name, array in rows.items()})

    def init(self, key, statistics):
        one, two = jax.random.split(key)
        return {"first": jax.random.normal(one, (6, 8)) / 3, "last": jax.random.normal(two, (8, 3)) / 3}

    def forward(self, params, batch, key):
        return jax.nn.relu(batch["x"] @ params["first"]) @ params["last"]
"""


def _points(rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    return {"x": (np.eye(3, 6)[labels] * 2 + rng.normal(size=(rows, 6))).astype(np.float32), "y": labels}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """A folder a site, and "all" with every site's rows, mixed, under the name of their site."""
    found = {site: _points(rows, seed) for seed, (site, rows) in enumerate(SIZES.items())}
    for site, arrays in found.items():
        (tmp_path / site).mkdir()
        np.savez(tmp_path / site / "points.npz", **arrays)
    sites = np.concatenate([np.full(rows, site) for site, rows in SIZES.items()])
    # Sites' rows lie among each other's, each site's in their order.
    mixed = np.random.default_rng(9).permutation(sites)
    order = np.empty(len(sites), np.int64)
    for site in SIZES:
        order[mixed == site] = np.flatnonzero(sites == site)
    (tmp_path / "all").mkdir()
    whole = {name: np.concatenate([arrays[name] for arrays in found.values()])[order] for name in ("x", "y")}
    np.savez(tmp_path / "all" / "points.npz", site=sites[order], **whole)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "task.py").write_text(TASK)
    return {name: tmp_path / name for name in (*SIZES, "all", "code")}


def _job(
    simulation: dict[str, Any] | None = None,
    framework: str = "torch",
    privacy: dict[str, Any] | None = None,
    **federation: Any,
) -> JobSpec:
    local = {"epochs": 2, "batch_size": 8, "learning_rate": 0.1, **federation.pop("local", {})}
    document = {
        "name": "points",
        "task": {"code": "task.py:Points", "framework": framework},
        "data": {"dataset": "points"},
        "federation": {"rounds": 4, "seed": 3, "local": local, **federation},
        "simulation": {"partition": "key", "key": "site", **(simulation or {})},
        "privacy": privacy or {},
    }
    return job_from(document)


def _adapter(job: JobSpec, places: dict[str, Path]) -> Adapter:
    data = SiteData(site="all", path=places["all"], columns={}, row_ids=np.empty(0, np.int64))
    return open_adapter(job, load_task(places["code"], job.task.code, {}), data, {})


def _virtual(job: JobSpec, places: dict[str, Path], executor: str, tmp_path: Path) -> VirtualRun:
    adapter = _adapter(job, places)
    assert job.simulation is not None
    population = open_population(job.simulation, job.federation.seed, adapter.split.train)
    run = VirtualRun(job, adapter, population, tmp_path / "controls")
    records = list(run.rounds(open_executor(executor, adapter)))
    assert [record.step for record in records] == [1, 2, 3, 4]
    assert all(record.clients == len(SIZES) for record in records)
    return run


FEDERATIONS = [
    {"algorithm": "fedavg"},
    {"algorithm": "fedavg", "weighting": "uniform", "local": {"clip_norm": 0.5, "schedule": "cosine"}},
    {"algorithm": "fedprox", "options": {"mu": 0.3}, "local": {"momentum": 0.9}},
    {"algorithm": "scaffold"},
    {"algorithm": "fedadam", "local": {"optimizer": "adamw", "weight_decay": 0.01, "learning_rate": 0.01}},
    {"algorithm": "fedyogi", "local": {"weight_decay": 0.01}},
    {"algorithm": "fedavgm", "local": {"optimizer": "adam", "learning_rate": 0.01}},
    {"algorithm": "fedadam", "robust": {"tolerate": 1}},
    {"algorithm": "scaffold", "robust": {"rule": "centred-clipping", "tolerate": 1, "mixing": "none"}},
]


@pytest.mark.parametrize("federation", FEDERATIONS, ids=lambda given: "-".join(map(str, given.values()))[:40])
def test_virtual_clients_give_the_model_that_sites_give(
    tmp_path: Path, places: dict[str, Path], federation: dict[str, Any]
) -> None:
    job = _job(**federation)
    bundle = pack_bundle(places["code"], ("*.py",))
    sites = Simulation(job, bundle, {site: places[site] for site in SIZES}, tmp_path / "simulation")
    expected = sites.run().model.digest
    loop = _virtual(job, places, "loop", tmp_path)
    assert digest_of(loop.packed()) == expected
    # Each compilation costs seconds; the unit tests of executors have the other ways of training.
    compiled = ("compiled",) if federation["algorithm"] in {"fedprox", "scaffold"} else ()
    for executor in ("stacked", *compiled):
        other = _virtual(job, places, executor, tmp_path)
        assert np.abs(other.weights.vector - loop.weights.vector).max() < 1e-4
        assert other.figures("test")["accuracy"] == pytest.approx(loop.figures("test")["accuracy"], abs=1e-3)


COMPRESSED = [
    {"algorithm": "fedavgm", "compression": {"kind": "int4"}},
    {"algorithm": "fedadam", "compression": {"kind": "top-k", "fraction": 0.3}},
    {"compression": {"kind": "low-rank", "rank": 1}},
    {"compression": {"kind": "int8"}, "robust": {"tolerate": 1}},
]


@pytest.mark.parametrize("federation", COMPRESSED, ids=lambda given: given["compression"]["kind"])
def test_compressed_updates_of_virtual_clients_arrive_as_those_of_sites(
    tmp_path: Path, places: dict[str, Path], federation: dict[str, Any]
) -> None:
    job = _job(**federation)
    bundle = pack_bundle(places["code"], ("*.py",))
    sites = Simulation(job, bundle, {site: places[site] for site in SIZES}, tmp_path / "simulation").run()
    assert digest_of(_virtual(job, places, "loop", tmp_path).packed()) == sites.model.digest
    whole = _virtual(_job(**{**federation, "compression": {"kind": "none"}}), places, "loop", tmp_path)
    assert digest_of(whole.packed()) != sites.model.digest


def test_a_cohort_too_small_for_its_robust_rule_is_refused(tmp_path: Path, places: dict[str, Path]) -> None:
    with pytest.raises(SpecError, match="tolerates 2 lying sites among 5 or more, and a round may have 4"):
        _virtual(_job(robust={"tolerate": 2}), places, "loop", tmp_path)


CENTRAL = {"clip_norm": 0.3, "noise_multiplier": 0.2, "delta": 1e-5}
PRIVATE = [
    {"seed": 5},
    {"seed": 5, "adaptive": {"quantile": 0.3, "count_noise": 1.0}},
]


@pytest.mark.parametrize("more", PRIVATE, ids=["fixed", "adaptive"])
@pytest.mark.parametrize("kind", ["none", "int4"])
def test_with_noise_virtual_clients_and_sites_give_one_model_where_the_noise_follows_from_a_seed(
    tmp_path: Path, places: dict[str, Path], more: dict[str, Any], kind: str
) -> None:
    privacy = {"statistics": False, "central": {**CENTRAL, **more}}
    job = _job(privacy=privacy, weighting="uniform", algorithm="fedadam", compression={"kind": kind})
    bundle = pack_bundle(places["code"], ("*.py",))
    sites = Simulation(job, bundle, {site: places[site] for site in SIZES}, tmp_path / "simulation").run()
    loop = _virtual(job, places, "loop", tmp_path)
    assert digest_of(loop.packed()) == sites.model.digest
    assert (loop.clip_norm == CENTRAL["clip_norm"]) == ("adaptive" not in more)
    assert [item.loss for item in sites.progress.losses] == [None] * 4, "a loss over training rows has no noise"


def test_without_a_seed_the_noise_is_fresh_each_time(tmp_path: Path, places: dict[str, Path]) -> None:
    job = _job(privacy={"statistics": False, "central": CENTRAL}, weighting="uniform")
    made = {digest_of(_virtual(job, places, "loop", tmp_path).packed()) for _ in range(2)}
    assert len(made) == 2


def test_a_round_of_nobody_is_released_with_noise_like_any_other(tmp_path: Path, places: dict[str, Path]) -> None:
    rare = {"sampling": "poisson", "cohort": 1}
    job = _job(rare, privacy={"statistics": False, "central": {**CENTRAL, "seed": 1}}, weighting="uniform", rounds=12)
    adapter = _adapter(job, places)
    assert job.simulation is not None
    run = VirtualRun(job, adapter, open_population(job.simulation, 3, adapter.split.train), tmp_path / "controls")
    before, clients = run.weights.vector, []
    for record in run.rounds(open_executor("loop", adapter)):
        clients.append(record.clients)
        assert not np.array_equal(before, run.weights.vector)
        before = run.weights.vector
    assert {0, 1} < set(clients), "of four clients, each takes part with a chance of a quarter"


def test_virtual_clients_of_a_jax_task_give_the_model_that_sites_give(tmp_path: Path, places: dict[str, Path]) -> None:
    pytest.importorskip("jax")
    (places["code"] / "task.py").write_text(JAX_TASK)
    job = _job(framework="jax", algorithm="scaffold")
    bundle = pack_bundle(places["code"], ("*.py",))
    sites = Simulation(job, bundle, {site: places[site] for site in SIZES}, tmp_path / "simulation")
    expected = sites.run().model.digest
    assert digest_of(_virtual(job, places, "loop", tmp_path).packed()) == expected


def test_fedbuff_side_by_side_is_fedbuff_by_the_loop(tmp_path: Path, places: dict[str, Path]) -> None:
    """Updates of one step are from several models; those of one model are trained side by side."""
    uneven = {"seconds_per_example": 0.1, "speed_sigma": 1.0}
    time = {"mode": "fedbuff", "concurrency": 4, "buffer": 3, "devices": uneven}
    job = _job({"time": time}, rounds=8)
    adapter = _adapter(job, places)
    assert job.simulation is not None
    population = open_population(job.simulation, job.federation.seed, adapter.split.train)
    ends = {}
    for executor in ("loop", "stacked"):
        devices = open_devices(job, population, tmp_path)
        run = VirtualRun(job, adapter, population, tmp_path / executor, devices=devices)
        records = list(run.rounds(open_executor(executor, adapter)))
        assert max(len(record.simulated.staleness) for record in records if record.simulated) > 2
        ends[executor] = run.weights.vector
    assert np.abs(ends["stacked"] - ends["loop"]).max() < 1e-4


def test_a_client_whose_loss_is_not_finite_is_named(tmp_path: Path, places: dict[str, Path]) -> None:
    whole = dict(np.load(places["all"] / "points.npz"))
    whole["x"][np.flatnonzero(whole["site"] == "south")[0]] = np.nan
    np.savez(places["all"] / "points.npz", **whole)
    for executor in ("loop", "stacked", "compiled"):
        with pytest.raises(NonFiniteError, match=r"^south: the loss is nan"):
            _virtual(_job(), places, executor, tmp_path)


def test_a_client_without_rows_adds_nothing(tmp_path: Path, places: dict[str, Path]) -> None:
    job = _job()
    adapter = _adapter(job, places)
    weights = adapter.initial(0)
    run = VirtualRun(job, adapter, open_population(job.simulation, 3, adapter.split.train), tmp_path)
    plans = run.plans(1)
    empty = msgspec.structs.replace(plans[1], rows=np.empty(0, np.int64))
    for name in offered(adapter):
        trained = list(open_executor(name, adapter).train(weights, [plans[0], empty, plans[2]]))
        assert [one.examples for one in trained] == [23, 0, 7]
        assert trained[1].steps == 0
        assert not trained[1].delta.any()
        assert trained[2].delta.any()
