"""Each kind of work, done inline on a small data set; what is refused and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest

from archipel.data.compression.choice import codec_of
from archipel.data.compression.port import decoded
from archipel.data.stores.spool import Spool
from archipel.site.worker.execute import Worker
from archipel.site.worker.memory import PERSONALISED, PERSONALISED_ONNX, RunMemory
from archipel.spec import (
    ArchipelError,
    Blob,
    DataError,
    NamedModel,
    NonFiniteError,
    RoundTask,
    ShapeError,
    SpecError,
    StateError,
    TaskError,
    TrustError,
    Update,
    pack,
    parse_header,
    unpack,
)
from archipel.spec.compression import CompressionSpec
from archipel.spec.job import JobSpec
from unit.site.site_fakes import SITE, TASK, make_job, put_bundle, write_birds


class Bench:
    """A worker with a spool and a memory, and the tasks of one run."""

    def __init__(self, folder: Path, job: JobSpec | None = None, *, rows: int = 40, source: str = TASK) -> None:
        self.spool = Spool(folder / "spool")
        self.memory = RunMemory()
        self.worker = Worker(SITE, {"birds": write_birds(folder / "data", rows)}, self.spool, self.memory)
        self.job = job or make_job()
        self.bundle = put_bundle(self.spool, folder / "job", source)
        self.moves: list[float] = []

    def task(self, kind: str, **fields: Any) -> RoundTask:
        fields = {"run": "run-1", "round": 0, "site": SITE, "job": self.job, "bundle": self.bundle, **fields}
        return RoundTask(kind=kind, **fields)

    def do(self, kind: str, **fields: Any) -> Update:
        return self.worker.execute(self.task(kind, **fields), self.moves.append)

    def arrays(self, blob: Blob) -> dict[str, np.ndarray]:
        return unpack(self.spool.require(blob.digest).read_bytes())

    def first(self) -> dict[str, Blob]:
        """Return statistics and first model, as fields of later tasks."""
        statistics = self.do("statistics").parts["sums"].blob
        model = self.do("initialise", round=1, statistics=statistics).parts["model"].blob
        return {"statistics": statistics, "model": model}

    def add(self, model: Blob, delta: Blob) -> Blob:
        before, change = self.arrays(model), self.arrays(delta)
        return self.spool.put(pack({name: before[name] + change[name] for name in before}))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_check_says_what_the_data_set_is_and_that_statistics_are_wanted(bench: Bench) -> None:
    update = bench.do("check")
    assert update.dataset is not None
    assert (update.dataset.rows, update.dataset.labels) == (40, {"a": 20, "b": 20})
    assert update.metrics == {"examples": 40.0, "statistics": 1.0}
    assert bench.moves[-1] == 1.0


def test_statistics_are_the_sums_of_the_training_rows(bench: Bench) -> None:
    sums = bench.arrays(bench.do("statistics").parts["sums"].blob)
    assert sums["features.count"].tolist() == [30.0, 30.0]


def test_a_job_that_discloses_no_statistics_is_told_there_are_none_and_refused_if_it_asks(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_job(privacy={"statistics": False}))
    assert "statistics" not in bench.do("check").metrics
    with pytest.raises(TrustError, match="privacy"):
        bench.do("statistics")


def test_initialise_gives_the_same_bytes_at_every_site_and_another_for_another_seed(tmp_path: Path) -> None:
    one, two = Bench(tmp_path / "one"), Bench(tmp_path / "two")
    assert one.first()["model"] == two.first()["model"]
    other = Bench(tmp_path / "other", make_job(federation={"seed": 8}))
    assert other.first()["model"] != one.first()["model"]


NORMED = """
from torch import nn
from archipel.tasks.torch import TorchTask

class Birds(TorchTask):
    def model(self, statistics):
        return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

    def parameter_groups(self, model):
        return {"0.": 0.5}
"""


@pytest.mark.torch
@pytest.mark.parametrize(("algorithm", "says"), [("fedavgm", r"'1\.running_mean'"), ("scaffold", r"'0\.' 0\.5 times")])
def test_a_model_that_does_not_fit_the_algorithm_is_refused_before_training(
    tmp_path: Path, algorithm: str, says: str
) -> None:
    pytest.importorskip("torch")
    job = make_job(task={"framework": "torch"}, federation={"algorithm": algorithm})
    with pytest.raises(TaskError, match=says):
        Bench(tmp_path / "refused", job, source=NORMED).do("initialise")
    plain = make_job(task={"framework": "torch"})
    assert Bench(tmp_path / "taken", plain, source=NORMED).do("initialise").parts["model"]


def test_train_gives_a_delta_that_lowers_the_loss_and_repeats_bit_for_bit(tmp_path: Path) -> None:
    one, two = Bench(tmp_path / "one"), Bench(tmp_path / "two")
    updates = [bench.do("train", round=2, step=1, **bench.first()) for bench in (one, two)]
    plain = [msgspec.structs.replace(update, seconds=0.0) for update in updates]
    assert plain[0] == plain[1]
    assert plain[0].weight == 30
    assert plain[0].metrics["loss_examples"] == 30
    assert set(plain[0].parts) == {"delta"}
    assert plain[0].parts["delta"].manifest == one.do("initialise", round=1).parts["model"].manifest


def test_uniform_weighting_gives_every_site_weight_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_job(federation={"weighting": "uniform"}))
    assert bench.do("train", round=2, step=1, **bench.first()).weight == 1.0


UNSCALED = (
    TASK
    + """
    def statistics(self, site):
        return {}

    def model(self, statistics):
        from archipel.tasks.numpy import Network

        return Network(inputs=2, hidden=(16,), outputs=2, mean=np.zeros(2), scale=np.ones(2))
"""
)


def test_with_local_noise_what_leaves_is_the_clipped_update_and_noise_that_only_this_site_can_make_again(
    tmp_path: Path,
) -> None:
    local = {"clip_norm": 0.01, "noise_multiplier": 3.0}
    quiet = {**local, "noise_multiplier": 1e-9}

    def update_of(folder: str, privacy: dict[str, float]) -> Update:
        quietly = {"alone": False, "personalise_epochs": 0}
        told = {"statistics": False, "local": privacy}
        job = make_job(federation={"weighting": "uniform"}, privacy=told, evaluation=quietly)
        bench = Bench(tmp_path / folder, job, source=UNSCALED)
        update = bench.do("train", round=2, step=1, model=bench.do("initialise").parts["model"].blob)
        again = bench.do("train", round=2, step=1, model=bench.do("initialise").parts["model"].blob)
        assert again.parts == update.parts
        vectors[folder] = np.concatenate([a.ravel() for a in bench.arrays(update.parts["delta"].blob).values()])
        return update

    vectors: dict[str, np.ndarray] = {}
    noisy = update_of("noisy", local)
    assert (noisy.weight, noisy.metrics) == (1.0, {})
    update_of("other", local)
    update_of("quiet", quiet)
    assert np.linalg.norm(vectors["quiet"]) == pytest.approx(0.01, rel=1e-5)
    noise = vectors["noisy"] - vectors["quiet"]
    assert np.std(noise) == pytest.approx(0.03, rel=0.5)
    assert not np.allclose(noise, vectors["other"] - vectors["quiet"], atol=1e-3)


def test_training_alone_equals_a_federation_of_this_one_site(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_job(federation={"local": {"schedule": "cosine", "batch_size": 8}}))
    known = bench.first()
    model = known["model"]
    for step in (1, 2, 3):
        update = bench.do("train", round=1 + step, step=step, **{**known, "model": model})
        model = bench.add(model, update.parts["delta"].blob)
    alone = bench.do("alone", round=9, **known)
    assert bench.arrays(alone.parts["model"].blob).keys() == bench.arrays(model).keys()
    for name, array in bench.arrays(model).items():
        assert array.tobytes() == bench.arrays(alone.parts["model"].blob)[name].tobytes()
    assert not alone.parts["model"].shared


def test_fedprox_with_a_large_mu_stays_near_the_start(bench: Bench) -> None:
    known = bench.first()

    def distance(mu: float, round_: int) -> float:
        update = bench.do("train", round=round_, step=1, variant={"mu": mu}, **known)
        return sum(float(np.abs(array).sum()) for array in bench.arrays(update.parts["delta"].blob).values())

    assert distance(1.0, 3) < distance(0.0, 2)


def test_scaffold_begins_from_the_state_of_an_earlier_round_also_when_work_is_repeated(bench: Bench) -> None:
    known = bench.first()
    more = {"variant": {"scaffold": 1.0}, **known}
    first = bench.do("train", round=2, step=1, **more)
    state = bench.spool.put(
        pack({"control": np.concatenate([a.ravel() for a in bench.arrays(first.parts["control"].blob).values()])})
    )
    second = bench.do("train", round=3, step=2, inputs={"control": state}, **more)
    again = bench.do("train", round=3, step=2, inputs={"control": state}, **more)
    assert second.parts == again.parts
    assert bench.memory.recall("run-1", 3)["control"] == first.parts["control"].blob
    plain = bench.do("train", round=3, step=2, **known)
    assert plain.parts["delta"] == second.parts["delta"], "with one site c equals c_i, so nothing is corrected"


def test_what_compression_lost_joins_the_next_update_also_when_work_is_repeated(tmp_path: Path) -> None:
    spec = CompressionSpec(kind="top-k", fraction=0.3)
    bench = Bench(tmp_path / "lossy", make_job(federation={"compression": {"kind": "top-k", "fraction": 0.3}}))
    plain = Bench(tmp_path / "plain")
    known = bench.first()
    first = bench.do("train", round=2, step=1, **known)
    second = bench.do("train", round=3, step=2, **known)
    assert bench.do("train", round=3, step=2, **known).parts == second.parts
    learnt = [plain.do("train", round=1 + step, step=step, **plain.first()).parts["delta"] for step in (1, 2)]
    assert first.parts["delta"].stands_for == learnt[0].manifest
    codec, model = codec_of(spec, "x"), parse_header(plain.spool.view(learnt[0].blob.digest))[0]
    assert codec is not None
    whole = [np.concatenate([a.ravel() for a in plain.arrays(part.blob).values()]) for part in learnt]
    sent = [
        decoded(codec, bench.arrays(update.parts["delta"].blob), model, whole[0].copy()) for update in (first, second)
    ]
    residues = [bench.arrays(bench.memory.recall("run-1", before)["residue"]) for before in (3, 4)]
    lost = [np.concatenate([a.ravel() for a in residue.values()]) for residue in residues]
    assert sent[0] + lost[0] == pytest.approx(whole[0], abs=1e-6)
    assert sent[1] + lost[1] == pytest.approx(whole[1] + lost[0], abs=1e-6)
    assert np.abs(lost[0]).max() > 0


def test_noise_of_a_sites_own_is_compressed_as_it_is_and_not_shortened_to_the_clip_norm(tmp_path: Path) -> None:
    told = {"statistics": False, "local": {"clip_norm": 0.01, "noise_multiplier": 3.0}}
    job = make_job(
        federation={"weighting": "uniform", "compression": {"kind": "int8"}},
        privacy=told,
        evaluation={"alone": False, "personalise_epochs": 0},
    )
    bench = Bench(tmp_path, job, source=UNSCALED)
    sent = bench.arrays(
        bench.do("train", round=2, step=1, model=bench.do("initialise").parts["model"].blob).parts["delta"].blob
    )
    assert sent["scales"].max() * 127 > 0.01


def test_evaluate_scores_every_model_under_its_name(bench: Bench) -> None:
    known = bench.first()
    models = (NamedModel(name="federated", blob=known["model"]), NamedModel(name="alone/x", blob=known["model"]))
    sums = bench.arrays(bench.do("evaluate", round=4, models=models, statistics=known["statistics"]).parts["sums"].blob)
    assert sums["federated|classification.examples"] == 10
    assert sums["alone/x|classification.correct"] == sums["federated|classification.correct"]


def test_a_personalised_copy_stays_here_and_its_export_is_remembered(bench: Bench) -> None:
    known = bench.first()
    own = bench.do("personalise", round=5, **known).parts["model"]
    assert not own.shared
    assert bench.memory.recall("run-1", 6)[PERSONALISED] == own.blob
    shared = bench.do("export", round=6, share=True, **known).parts["onnx"]
    assert shared.shared
    assert PERSONALISED_ONNX not in bench.memory.recall("run-1", 7)
    kept = bench.do("export", round=7, **{**known, "model": own.blob}).parts["onnx"]
    assert bench.memory.recall("run-1", 8)[PERSONALISED_ONNX] == kept.blob
    session = onnxruntime.InferenceSession(bench.spool.require(kept.blob.digest).read_bytes())
    assert [item.name for item in session.get_inputs()] == ["x", "y"]
    assert json.loads(session.get_modelmeta().custom_metadata_map["archipel.classes"]) == ["a", "b"]


class Refused(msgspec.Struct):
    name: str
    error: type[ArchipelError]
    says: str
    kind: str = "check"
    job: dict[str, Any] = {}
    rows: int = 40
    fields: dict[str, Any] = {}


REFUSED = [
    Refused("another site's task", TrustError, "reached 'torgersen'", fields={"site": "dream"}),
    Refused("no such data set", DataError, "no data set 'fish'", job={"data": {"dataset": "fish"}}),
    Refused("too few rows", DataError, "valid rows", rows=0),
    Refused("no such class", TaskError, "'Brids'", job={"task": {"code": "task.py:Brids"}}),
    Refused("no such file", TaskError, "no file 'tusk.py'", job={"task": {"code": "tusk.py:Birds"}}),
    Refused("an option too many", TaskError, "TypeError", job={"task": {"options": {"depth": 3}}}),
    Refused("no memory", StateError, "the job asks for", job={"resources": {"memory_mb": 10**9}}),
    Refused("no model", SpecError, "without a model", kind="train", fields={"step": 1}),
    Refused("unknown number", SpecError, "nu", kind="train", fields={"step": 1, "variant": {"nu": 1.0}, "model": 0}),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_work_that_cannot_be_done_is_refused_by_name(case: Refused, tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_job(**case.job), rows=case.rows)
    fields = dict(case.fields)
    if "model" in fields:
        fields["model"] = bench.first()["model"]
    with pytest.raises(case.error, match=case.says):
        bench.do(case.kind, **fields)


def test_a_model_of_other_shapes_is_refused(bench: Bench) -> None:
    model = bench.spool.put(pack({"w": np.zeros(3, np.float32)}))
    with pytest.raises(ShapeError):
        bench.do("train", round=2, step=1, model=model)


def test_a_file_that_is_no_model_is_refused(bench: Bench) -> None:
    model = bench.spool.put(b"not a tensor file, but long enough to look at")
    with pytest.raises(SpecError, match="not a tensor file"):
        bench.do("train", round=2, step=1, model=model)


def test_a_rate_that_makes_nan_is_refused_and_nothing_is_remembered(tmp_path: Path) -> None:
    local = {"learning_rate": 1e300, "batch_size": 4, "epochs": 5}
    bench = Bench(tmp_path, make_job(federation={"local": local}))
    known = bench.first()
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError):
        bench.do("train", round=2, step=1, variant={"scaffold": 1.0}, **known)
    assert bench.memory.recall("run-1", 99) == {}


def test_a_task_that_raises_names_its_line(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_job(task={"code": "task.py:Broken"}))
    with pytest.raises(TaskError, match=r"task\.py:\d+"):
        bench.do("check")
