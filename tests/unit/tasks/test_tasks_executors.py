"""Executors against the loop, model by model: the same weights, or a refusal that names the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from archipel.data.site_data import SiteData
from archipel.simulation.choosing import choose_executor
from archipel.spec import LocalTraining, NonFiniteError, TaskError
from archipel.spec.job import job_from
from archipel.tasks.executors import open_executor
from archipel.tasks.port import LocalPlan, Split, Trained, Weights

torch = pytest.importorskip("torch")
pytest.importorskip("jax")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from archipel.tasks.torch import TorchTask  # noqa: E402
from archipel.tasks.torch.adapter import TorchAdapter  # noqa: E402

pytestmark = pytest.mark.torch

RNG = np.random.default_rng(4)
LABELS = RNG.integers(0, 5, 120)
IMAGES = (RNG.normal(size=(120, 1, 12, 12)) + LABELS[:, None, None, None] * 0.3).astype(np.float32)
WORDS = (RNG.integers(0, 6, (120, 4)) + LABELS[:, None] * 5).astype(np.int64)
SIZES = (9, 24, 1, 40, 8)
JOB = job_from(
    {"name": "models", "task": {"code": "task.py:T", "framework": "torch"}, "data": {"dataset": "d"}},
)


class Recurrent(nn.Module):
    """Words → their vectors → a recurrent layer → the last state's scores."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 6)
        self.cells = kind(6, 10, batch_first=True)
        self.out = nn.Linear(10, 5)

    def forward(self, words: Any) -> Any:
        return self.out(self.cells(self.words(words))[0][:, -1])


class Attentive(nn.Module):
    """A small transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, activation="gelu")
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(8, 5)

    def forward(self, words: Any) -> Any:
        return self.out(self.layers(self.words(words)).mean(1))


class Bag(nn.Module):
    """Embeddings, added up; a norm; a frozen layer before the trained one."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 12)
        self.norm = nn.LayerNorm(12)
        self.fixed = nn.Linear(12, 12)
        self.fixed.weight.requires_grad = False
        self.out = nn.Linear(12, 5)

    def forward(self, words: Any) -> Any:
        return self.out(functional.silu(self.fixed(self.norm(self.words(words).sum(1)))))


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.Tanh(), nn.GroupNorm(2, 6),
        nn.Flatten(), nn.Linear(6 * 16, 5),
    )  # fmt: skip


def _norm_of_batches() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))


MODELS: dict[str, Any] = {
    "logistic": lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 5)),
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 5)),
    "cnn": _convolutions,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "transformer": Attentive,
    "bag of embeddings": Bag,
}
OTHERS: dict[str, Any] = {
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.Dropout(0.5)),
    "batch norm": _norm_of_batches,
}
REFUSED = {("stacked", "lstm"), ("stacked", "gru")}
"""torch.func.vmap has no rule for them."""


class Scored(TorchTask):
    """A task with a model that the test gives."""

    classes = ("a", "b", "c", "d", "e")
    features = ("x",)
    label = "y"

    def __init__(self, name: str, *, double: bool) -> None:
        self._name = name
        self._double = double

    def model(self, statistics: Any) -> nn.Module:
        made: nn.Module = {**MODELS, **OTHERS}[self._name]()
        return made.double() if self._double else made

    def read(self, site: SiteData, statistics: Any) -> Split:
        wordy = self._name in {"lstm", "gru", "transformer", "bag of embeddings"}
        rows = {"x": WORDS if wordy else IMAGES, "y": LABELS}
        return Split(train=rows, test=rows)

    def collate(self, samples: Any, rows: Any) -> Any:
        batch = super().collate(samples, rows)
        return {"x": batch["x"].double() if batch["x"].is_floating_point() else batch["x"], "y": batch["y"]}


class Single(Scored):
    """... in float32, with the collate that is there already."""

    collate = TorchTask.collate


def _adapter(name: str, *, double: bool = False) -> TorchAdapter:
    kind = Scored if double else Single
    data = SiteData(site="here", path=Path(), columns={}, row_ids=np.empty(0, np.int64))
    return TorchAdapter(JOB, kind(name, double=double), data, {})


def _plans(**local: Any) -> list[LocalPlan]:
    training = msgspec.convert({"batch_size": 8, "epochs": 2, **local}, LocalTraining)
    rng = np.random.default_rng(1)
    return [
        LocalPlan(
            local=training,
            learning_rate=training.learning_rate,
            epochs=training.epochs,
            seed=(at,),
            client=f"c{at}",
            rows=rng.choice(120, size, replace=False),
        )
        for at, size in enumerate(SIZES)
    ]


def _gap(found: list[Trained], expected: list[Trained]) -> float:
    for one, other in zip(found, expected, strict=True):
        assert (one.examples, one.steps, one.loss_examples) == (other.examples, other.steps, other.loss_examples)
        assert one.loss_sum == pytest.approx(other.loss_sum, rel=1e-4)
    return max(float(np.abs(one.delta - other.delta).max()) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("executor", ["stacked", "compiled"])
def test_a_model_is_trained_to_the_weights_of_the_loop(executor: str, name: str) -> None:
    adapter = _adapter(name)
    weights = adapter.initial(0)
    plans = _plans(learning_rate=0.05)
    expected = list(open_executor("loop", adapter).train(weights, plans))
    if (executor, name) in REFUSED:
        with pytest.raises(TaskError, match="cannot be stacked") as caught:
            list(open_executor(executor, adapter).train(weights, plans))
        assert 'executor = "loop"' in caught.value.hint
        return
    found = list(open_executor(executor, adapter).train(weights, plans))
    assert _gap(found, expected) < 1e-5
    assert min(float(np.abs(one.delta).max()) for one in found) > 1e-4


LOCALS: list[dict[str, Any]] = [
    {"momentum": 0.9, "weight_decay": 0.01},
    {"clip_norm": 0.1},
    {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.01},
    {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
]


@pytest.mark.parametrize("local", LOCALS, ids=str)
@pytest.mark.parametrize("executor", ["stacked", "compiled"])
def test_every_way_of_local_training_gives_the_weights_of_the_loop(executor: str, local: dict[str, Any]) -> None:
    adapter = _adapter("mlp")
    weights = adapter.initial(0)
    correction = RNG.normal(scale=0.01, size=weights.vector.size).astype(np.float32)
    plans = _plans(**local)
    plans = [msgspec.structs.replace(plan, proximal=0.2, correction=correction) for plan in plans]
    expected = list(open_executor("loop", adapter).train(weights, plans))
    # Adam divides by the root of small squares, which carries rounding further.
    allowed = 2e-4 if "optimizer" in local else 1e-5
    assert _gap(list(open_executor(executor, adapter).train(weights, plans)), expected) < allowed


@pytest.mark.parametrize(("name", "rounds"), [("logistic", 20), ("mlp", 20), ("cnn", 4), ("transformer", 4)])
def test_in_double_precision_rounds_end_at_the_same_weights(name: str, rounds: int) -> None:
    adapter = _adapter(name, double=True)
    ends = []
    for executor in ("loop", "stacked"):
        opened, weights = open_executor(executor, adapter), adapter.initial(0)
        for _ in range(rounds):
            deltas = [one.delta for one in opened.train(weights, _plans(learning_rate=0.05, epochs=1))]
            weights = Weights(manifest=weights.manifest, vector=weights.vector + np.mean(deltas, axis=0))
        ends.append(weights.vector)
    assert ends[0].dtype == np.float64
    assert np.abs(ends[0] - ends[1]).max() < 1e-9


def test_the_compiled_mean_is_the_mean_of_what_the_loop_trains() -> None:
    adapter = _adapter("mlp")
    weights = adapter.initial(0)
    plans = _plans(learning_rate=0.05)
    shares = [len(plan.rows) / sum(SIZES) for plan in plans if plan.rows is not None]
    single = list(open_executor("loop", adapter).train(weights, plans))
    compiled: Any = open_executor("compiled", adapter)
    mean = compiled.train_mean(weights, plans, shares)
    expected = sum(share * one.delta for share, one in zip(shares, single, strict=True))
    assert np.abs(mean.delta - expected).max() < 1e-6
    assert mean.steps == sum(one.steps for one in single)
    assert mean.loss_sum == pytest.approx(sum(one.loss_sum for one in single), rel=1e-4)
    # Fewer clients, whose shares are of a larger mean, are computed by the same program.
    fewer = compiled.train_mean(weights, plans[1:3], shares[1:3])
    expected = sum(share * one.delta for share, one in zip(shares[1:3], single[1:3], strict=True))
    assert np.abs(fewer.delta - expected).max() < 1e-6
    assert fewer.loss_sum == pytest.approx(sum(one.loss_sum for one in single[1:3]), rel=1e-4)
    assert [program._jitted._cache_size() for program in compiled._programs.values()] == [1]


def test_a_smaller_cohort_compiles_nothing_anew() -> None:
    adapter = _adapter("logistic")
    weights = adapter.initial(0)
    correction = np.full_like(weights.vector, 0.01)
    plans = [msgspec.structs.replace(plan, correction=correction) for plan in _plans()]
    compiled: Any = open_executor("compiled", adapter)
    whole = list(compiled.train(weights, plans))
    fewer = list(compiled.train(weights, plans[3:]))
    assert _gap(fewer, whole[3:]) == 0
    assert [(one.steps, one.examples) for one in fewer] == [(one.steps, one.examples) for one in whole[3:]]
    assert [program._jitted._cache_size() for program in compiled._programs.values()] == [1]


@pytest.mark.parametrize("executor", ["stacked", "compiled"])
def test_a_model_with_running_statistics_is_refused(executor: str) -> None:
    with pytest.raises(TaskError, match=r"it has running statistics \('2.running_mean'\)"):
        open_executor(executor, _adapter("batch norm"))


def test_dropout_is_seen_by_what_comes_out() -> None:
    adapter = _adapter("dropout")
    weights = adapter.initial(0)
    assert choose_executor("auto", adapter, weights, _plans()).executor.name == "loop"
    with pytest.raises(TaskError, match="stacked: its weights differ by"):
        choose_executor("stacked", adapter, weights, _plans())
    with pytest.raises(TaskError, match="cannot be compiled: no counterpart of aten"):
        choose_executor("compiled", adapter, weights, _plans())


def test_an_option_that_the_counterpart_does_not_know_is_refused_by_name() -> None:
    class Upwards(Single):
        def model(self, statistics: Any) -> nn.Module:
            return nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 14 * 14, 5))

    data = SiteData(site="here", path=Path(), columns={}, row_ids=np.empty(0, np.int64))
    adapter = TorchAdapter(JOB, Upwards("cnn", double=False), data, {})
    with pytest.raises(TaskError, match=r"cannot be compiled: aten.convolution.default: transposed convolution"):
        open_executor("compiled", adapter)
    assert choose_executor("auto", adapter, adapter.initial(0), _plans()[:2]).executor.name in {"loop", "stacked"}


def test_a_loss_that_is_not_a_mean_over_rows_is_not_compiled() -> None:
    class Summed(Single):
        def loss(self, model: nn.Module, batch: Any) -> Any:
            return functional.cross_entropy(self.forward(model, batch), batch["y"], reduction="sum")

    data = SiteData(site="here", path=Path(), columns={}, row_ids=np.empty(0, np.int64))
    adapter = TorchAdapter(JOB, Summed("mlp", double=False), data, {})
    with pytest.raises(TaskError, match="is not the mean of its rows' losses"):
        open_executor("compiled", adapter)


@pytest.mark.parametrize("executor", ["loop", "stacked", "compiled"])
def test_a_client_that_diverges_is_named(executor: str) -> None:
    adapter = _adapter("mlp")
    plans = _plans(learning_rate=0.05)
    plans[3] = msgspec.structs.replace(plans[3], rows=np.arange(40), correction=np.full(4805, np.nan, np.float32))
    with pytest.raises(NonFiniteError, match=r"^c3: "):
        list(open_executor(executor, adapter).train(adapter.initial(0), plans))
