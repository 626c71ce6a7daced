"""The torch adapter: what is in the vector and what is not, steps beside torch.optim, exports, mistakes."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from tasks_benches import LABELS, MATRIX, STATISTICS, Clouds, a_job, site_data

from archipel.spec import LocalTraining, NonFiniteError, ShapeError, StateError, TaskError
from archipel.tasks.conformance import moved, plan
from archipel.tasks.metrics import summarise

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from archipel.tasks.torch import Split, TorchTask  # noqa: E402
from archipel.tasks.torch.adapter import TorchAdapter  # noqa: E402
from archipel.tasks.torch.optimizer import FlatOptimizer  # noqa: E402
from archipel.tasks.torch.threads import choose_device, seeded  # noqa: E402

pytestmark = pytest.mark.torch

INPUTS = ((MATRIX - MATRIX.mean(axis=0)) / MATRIX.std(axis=0)).astype(np.float32)


class Birds(TorchTask):
    """A task whose model, samples and attributes a test gives."""

    classes = ("one", "two", "three")
    features = ("x",)
    label = "y"

    def __init__(self, build, samples=None, **attributes):
        self.build = build
        self.given = {"x": INPUTS, "y": LABELS} if samples is None else samples
        for name, value in attributes.items():
            setattr(self, name, value)

    def model(self, statistics):
        return self.build()

    def read(self, site, statistics):
        return Split(train=self.given, test=self.given)


def small():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def opened(task, **job):
    return TorchAdapter(a_job("torch", **job), task, site_data(), STATISTICS)


def trained(adapter, what=None, seed=0):
    return adapter.train(adapter.initial(seed), what or plan(), lambda _: None)


def names(adapter):
    return [tensor.name for tensor in adapter.initial(0).manifest.tensors]


# ---- steps -----------------------------------------------------------------------------------------------------

OPTIMIZERS = [
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "weight_decay": 0.1},
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    {"optimizer": "adam"},
    {"optimizer": "adam", "weight_decay": 0.1},
    {"optimizer": "adamw", "weight_decay": 0.1},
]
PARTS = [(slice(0, 10), 1.0), (slice(10, 30), 0.1), (slice(30, 50), 2.0)]


@pytest.mark.parametrize("parts", [(), PARTS], ids=["one rate", "three rates"])
@pytest.mark.parametrize("choice", OPTIMIZERS, ids=str)
def test_steps_are_those_of_torch_optim(choice, parts):
    local = LocalTraining(**choice)
    makers = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    options = {"weight_decay": local.weight_decay} | ({"momentum": local.momentum} if local.momentum else {})
    torch.manual_seed(0)
    ours = torch.randn(50)
    theirs = [(nn.Parameter(ours[part].clone()), part, factor) for part, factor in parts or [(slice(0, 50), 1.0)]]
    groups = [{"params": [parameter], "lr": 0.05 * factor} for parameter, _, factor in theirs]
    reference = makers[local.optimizer](groups, lr=0.05, **options)
    optimizer = FlatOptimizer(local, 0.05, ours, parts)
    for _ in range(30):
        gradient = torch.randn(50)
        for parameter, part, _ in theirs:
            parameter.grad = gradient[part].clone()
        reference.step()
        optimizer.step(gradient)
    assert torch.allclose(ours, torch.cat([parameter.detach() for parameter, _, _ in theirs]), atol=1e-6)


def by_hand(build, what):
    """The same training written as a user would, with torch.optim and a DataLoader's order."""
    with seeded(0, torch.device("cpu")):
        model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=what.learning_rate, momentum=what.local.momentum)
    rng = np.random.default_rng(what.seed)
    for _ in range(what.epochs):
        order = rng.permutation(60)
        for first in range(0, 60, what.local.batch_size):
            rows = order[first : first + what.local.batch_size]
            optimizer.zero_grad()
            functional.cross_entropy(model(torch.tensor(INPUTS[rows])), torch.tensor(LABELS[rows])).backward()
            if what.local.clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), what.local.clip_norm)
            optimizer.step()
    return torch.cat([parameter.detach().ravel() for parameter in model.parameters()]).numpy()


@pytest.mark.parametrize("choice", [{}, {"momentum": 0.9}, {"clip_norm": 0.2}], ids=str)
def test_training_is_what_a_plain_torch_loop_does(choice):
    adapter = opened(Birds(small))
    what = plan(epochs=3, **choice)
    weights = moved(adapter.initial(0), trained(adapter, what))
    assert np.allclose(weights.vector, by_hand(small, what), atol=1e-5)


def test_groups_move_at_their_own_rates():
    class Groups(Birds):
        def parameter_groups(self, model):
            return {"0.": 0.0, "0.bias": 0.5, "2.": 1.0}

    step = plan(epochs=1, batch_size=60)
    plain, grouped = (trained(opened(task), step).delta for task in (Birds(small), Groups(small)))
    assert not grouped[:32].any()
    assert np.allclose(grouped[32:40], 0.5 * plain[32:40], atol=1e-7)
    assert grouped[40:].tobytes() == plain[40:].tobytes()


def test_a_group_that_fits_no_parameter_is_refused():
    class Groups(Birds):
        def parameter_groups(self, model):
            return {"encoder.": 0.1}

    with pytest.raises(TaskError, match=r"'encoder\.'"):
        trained(opened(Groups(small)))


# ---- what is in the vector -------------------------------------------------------------------------------------


def normed():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 3))


def test_running_means_travel_and_integer_buffers_stay():
    adapter = opened(Birds(normed))
    assert names(adapter)[-2:] == ["1.running_mean", "1.running_var"]
    assert not any("num_batches" in name for name in names(adapter))
    delta = trained(adapter).delta
    assert delta[-16:].all()
    frozen = trained(adapter, plan(rate=0.0)).delta
    assert not frozen[:-16].any()
    assert frozen[-16:].any()


def test_first_weights_say_which_are_running_means_and_which_parts_have_rates_of_their_own():
    class Groups(Birds):
        def parameter_groups(self, model):
            return {"0.": 0.5, "4.": 1.0}

    first = opened(Groups(normed)).initial(0)
    assert first.buffers == ("1.running_mean", "1.running_var")
    assert first.multipliers == {"0.": 0.5}
    plain = opened(Birds(small)).initial(0)
    assert (plain.buffers, plain.multipliers) == ((), {})


def test_running_means_take_no_decay_correction_or_proximal_term():
    adapter = opened(Birds(normed))
    start = adapter.initial(0)
    pushed = plan(rate=0.0, weight_decay=0.5, proximal=9.0, correction=np.ones_like(start.vector))
    assert trained(adapter, pushed).delta[-16:].tobytes() == trained(adapter, plan(rate=0.0)).delta[-16:].tobytes()


def test_what_ran_before_does_not_change_a_result():
    class Counted(nn.BatchNorm1d):
        """Averages over all batches ever seen, so its integer counter matters."""

        def __init__(self):
            super().__init__(8, momentum=None)

    adapter = opened(Birds(lambda: nn.Sequential(nn.Linear(4, 8), Counted(), nn.Linear(8, 3))))
    first = trained(adapter)
    adapter.evaluate(adapter.initial(3))
    assert trained(adapter).delta.tobytes() == first.delta.tobytes()


def test_a_buffer_that_is_assigned_anew_still_travels():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.register_buffer("seen", torch.zeros(4))

        def forward(self, x):
            if self.training:
                self.seen = self.seen + x.detach().mean(dim=0)
            return self.layer(x - self.seen)

    adapter = opened(Birds(Mean))
    one, two = trained(adapter), trained(adapter)
    assert one.delta[-4:].any()
    assert one.delta.tobytes() == two.delta.tobytes()


def test_what_is_not_trainable_stays_home_and_is_the_same_everywhere():
    class Frozen(Birds):
        def trainable(self, name):
            return not name.startswith("0.")

    one, two = opened(Frozen(small), seed=4), opened(Frozen(small), seed=4)
    assert names(one) == ["2.weight", "2.bias"]
    weights = one.initial(9)
    one.train(weights, plan(), lambda _: None)
    for key, value in one.evaluate(weights).items():
        assert value.tobytes() == two.evaluate(weights)[key].tobytes()
    assert summarise(opened(Frozen(small), seed=5).evaluate(weights)) != summarise(one.evaluate(weights))


def test_parameters_that_ask_for_no_gradient_stay_home():
    def build():
        model = small()
        model[0].weight.requires_grad = False
        return model

    assert names(opened(Birds(build))) == ["0.bias", "2.weight", "2.bias"]


def test_a_parameter_the_loss_does_not_reach_stays_as_it_is():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    delta = trained(opened(Birds(Idle))).delta
    assert delta[:15].all()
    assert not delta[15:].any()


def test_sparse_gradients_are_taken():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 3, sparse=True)

        def forward(self, x):
            return self.table(x)

    delta = trained(opened(Birds(Table, {"x": LABELS, "y": LABELS}))).delta.reshape(5, 3)
    assert delta[:3].all()
    assert not delta[3:].any()


def test_tied_weights_are_in_the_vector_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 4)
            self.head = nn.Linear(4, 4, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x):
            return self.head(x + self.table.weight.sum(0))[:, :3]

    adapter = opened(Birds(Tied))
    assert names(adapter) == ["table.weight"]
    assert trained(adapter).delta.any()


def test_a_model_of_double_precision_keeps_it():
    class Double(Birds):
        def collate(self, samples, rows):
            return {"x": torch.tensor(samples["x"][rows]).double(), "y": torch.tensor(samples["y"][rows])}

    adapter = opened(Double(lambda: small().double()))
    assert adapter.initial(0).vector.dtype == np.float64
    assert trained(adapter).delta.dtype == np.float64


def test_mixed_precision_becomes_single():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, x):
            return self.layer(x) * self.scale

    adapter = opened(Birds(Mixed))
    assert adapter.initial(0).vector.dtype == np.float32
    assert trained(adapter).delta.any()


def test_a_model_without_anything_to_train_only_scores():
    class Nothing(Birds):
        def trainable(self, name):
            return False

    adapter = opened(Nothing(small))
    assert adapter.initial(0).vector.shape == (0,)
    assert adapter.evaluate(adapter.initial(0))["classification.examples"] == 60
    with pytest.raises(TaskError, match="no parameter to train"):
        trained(adapter)


# ---- randomness ------------------------------------------------------------------------------------------------


def test_the_callers_random_stream_goes_on_undisturbed():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    adapter = opened(Birds(normed))
    trained(adapter)
    adapter.evaluate(adapter.initial(0))
    assert torch.equal(torch.rand(3), expected)


def test_draws_in_reading_and_batching_are_the_same_everywhere():
    class Drawing(Birds):
        def read(self, site, statistics):
            rows = torch.randperm(60).numpy()[np.random.permutation(60)[:30]]  # noqa: NPY002
            random.shuffle(rows)
            part = {"x": INPUTS[rows], "y": LABELS[rows]}
            return Split(train=part, test=part)

        def collate(self, samples, rows):
            batch = super().collate(samples, rows)
            return batch | {"x": batch["x"] + torch.tensor(np.random.normal() + random.random())}  # noqa: NPY002

    before = np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    one, two = (trained(opened(Drawing(small))).delta for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert (np.random.get_state()[1].tobytes(), random.getstate()) == before  # noqa: NPY002


def test_dropout_draws_from_the_plans_seed():
    whole = {"epochs": 1, "batch_size": 60}
    one, same, other = (
        trained(opened(Birds(normed)), plan(seed=seed, **whole)).delta for seed in ((1, 1), (1, 1), (1, 2))
    )
    assert one.tobytes() == same.tobytes()
    assert not np.allclose(one, other, atol=1e-6)


def process_result():
    torch.set_num_threads(1)
    return trained(opened(Birds(normed)), plan(epochs=2, optimizer="adam")).delta


def test_another_process_gives_the_same_bytes():
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_tasks_torch import process_result\n"
        "print(hashlib.sha256(process_result().tobytes()).hexdigest())"
    )
    here = str(Path(__file__).parent)
    out = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True)
    before = torch.get_num_threads()
    try:
        assert out.stdout.strip() == hashlib.sha256(process_result().tobytes()).hexdigest()
    finally:
        torch.set_num_threads(before)


# ---- losses, scores, batches -----------------------------------------------------------------------------------

LATE = (LABELS == 0).astype(np.int64)


def test_one_logit_a_row_is_a_binary_task():
    for build in (lambda: nn.Linear(4, 1), lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))):
        adapter = opened(Birds(build, {"x": INPUTS, "y": LATE}, classes=("on time", "late")))
        weights = moved(adapter.initial(0), trained(adapter, plan(epochs=20)))
        figures = summarise(adapter.evaluate(weights))
        assert figures["auc"] > 0.9
        logits = INPUTS @ weights.vector[:4] + weights.vector[4]
        assert figures["log_loss"] == pytest.approx(np.logaddexp(0, -logits * (2 * LATE - 1)).mean(), rel=1e-5)


def tagged():
    rng = np.random.default_rng(0)
    tags = rng.integers(0, 3, (20, 6))
    tags[5:, 4:] = -100
    return {"x": (np.eye(4, dtype=np.float32)[np.maximum(tags, 0)]), "y": tags}


def test_tags_are_learnt_and_counted_without_padding():
    task = Birds(lambda: nn.Linear(4, 3), tagged(), classes=("O", "B-X", "I-X"), metrics="tagging", evaluation_rows=7)
    adapter = opened(task)
    weights = moved(adapter.initial(0), trained(adapter, plan(epochs=60, rate=0.5)))
    figures = summarise(adapter.evaluate(weights))
    assert figures["examples"] == 5 * 6 + 15 * 4
    assert figures["entity_f1"] == figures["micro_f1"] == 1.0


def test_a_batch_may_be_any_nest_of_tensors():
    class Nested(Birds):
        def collate(self, samples, rows):
            return [(torch.tensor(samples["x"][rows]), "words"), {"y": torch.tensor(samples["y"][rows])}]

        def loss(self, model, batch):
            return functional.cross_entropy(model(batch[0][0]), batch[1]["y"])

        def score_batch(self, model, batch):
            return {"mean.examples": np.array(len(batch[1]["y"])), "mean.one": np.array(len(batch[1]["y"]))}

    adapter = opened(Nested(small))
    assert trained(adapter).delta.any()
    assert summarise(adapter.evaluate(adapter.initial(0))) == {"examples": 60.0, "one": 1.0}


def test_words_that_the_model_does_not_take_stay_out_of_a_batch():
    samples = {"x": INPUTS, "y": LABELS, "name": np.array(["a"] * 60)}
    batch = Birds(small, samples).collate(samples, np.arange(3))
    assert set(batch) == {"x", "y"}


# ---- export ----------------------------------------------------------------------------------------------------


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.layers = nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, numbers, codes):
        return self.layers(torch.cat([numbers, self.table(codes)], dim=1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.chain = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 3)

    def forward(self, tokens):
        return self.head(self.chain(self.table(tokens))[0])


@dataclass
class Export:
    name: str
    task: Birds
    inputs: Any


def exports():
    rng = np.random.default_rng(0)
    codes, tokens = rng.integers(0, 5, 60), rng.integers(0, 9, (20, 6))
    binary = {"numbers": MATRIX / 1000, "codes": codes, "y": LATE}
    words = {"tokens": tokens, "y": tokens % 3}
    return [
        Export("mlp", Birds(normed), {"x": INPUTS}),
        Export(
            "embeddings",
            Birds(Embedded, binary, classes=("on time", "late"), features=("numbers", "codes")),
            {"numbers": (MATRIX / 1000).astype(np.float32), "codes": codes},
        ),
        Export(
            "recurrent",
            Birds(
                Recurrent,
                words,
                features=("tokens",),
                metrics="tagging",
                classes=("O", "B-X", "I-X"),
                dynamic={"tokens": {1: "length"}},
            ),
            {"tokens": tokens},
        ),
    ]


@pytest.mark.parametrize("case", exports(), ids=lambda case: case.name)
def test_an_exported_model_answers_as_scores_does(case, tmp_path, capfd):
    adapter = opened(case.task)
    weights = moved(adapter.initial(0), trained(adapter))
    adapter.export(weights, tmp_path / "m.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    session = ort.InferenceSession((tmp_path / "m.onnx").read_bytes())
    assert [entry.name for entry in session.get_inputs()] == list(case.task.features)
    assert session.get_outputs()[0].name == "probabilities"
    model = adapter._model
    model.put(weights.vector)
    model.module.eval()
    for rows in (60, 1, 3):
        feed = {name: array[:rows] for name, array in case.inputs.items()}
        with torch.no_grad():
            expected = case.task.scores(model.module, {name: torch.tensor(array) for name, array in feed.items()})
        assert np.allclose(session.run(None, feed)[0], expected.numpy(), atol=1e-5), rows
    if case.name == "recurrent":
        assert session.run(None, {"tokens": case.inputs["tokens"][:, :4]})[0].shape == (20, 4, 3)
    assert capfd.readouterr() == ("", "")


def test_an_export_names_no_file_and_has_the_same_bytes_each_time(tmp_path):
    adapter = opened(Birds(normed))
    for name in ("a", "b"):
        adapter.export(adapter.initial(0), tmp_path / name)
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes()
    assert b".py" not in data


def test_a_model_that_cannot_be_exported_says_why(tmp_path):
    adapter = opened(mistaken(scores=lambda s, m, b: Birds.no_such_thing)(small))
    with pytest.raises(TaskError, match=r"test_tasks_torch\.py:\d+, in export: AttributeError.*no_such_thing"):
        adapter.export(adapter.initial(0), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_without_named_features_cannot_be_exported(tmp_path):
    adapter = opened(Birds(small, features=()))
    with pytest.raises(TaskError, match="names no features"):
        adapter.export(adapter.initial(0), tmp_path / "m.onnx")


@pytest.mark.parametrize("rows", [0, 1])
def test_a_site_with_hardly_a_row_can_export(tmp_path, rows):
    adapter = opened(Birds(small, {"x": INPUTS[:rows], "y": LABELS[:rows]}))
    adapter.export(adapter.initial(0), tmp_path / "m.onnx")
    assert ort.InferenceSession(tmp_path / "m.onnx").run(None, {"x": INPUTS})[0].shape == (60, 3)


# ---- mistakes --------------------------------------------------------------------------------------------------


def mistaken(**methods):
    return type("Mistaken", (Birds,), methods)


def replacing(task, model, batch):
    model[0].weight.data = model[0].weight.data.clone()
    return Birds.loss(task, model, batch)


@dataclass
class Mistake:
    name: str
    task: TorchTask
    message: str
    error: type[Exception] = TaskError


MISTAKES = [
    Mistake("model returns", Birds(lambda: None), "model() returned NoneType", ShapeError),
    Mistake("model raises", Birds(lambda: 1 / 0), "in model: ZeroDivisionError"),
    Mistake("lazy", Birds(lambda: nn.LazyLinear(3)), "'weight' has no shape yet", ShapeError),
    Mistake("widths", Birds(lambda: nn.Linear(5, 3)), "in loss: RuntimeError: mat1 and mat2"),
    Mistake("vector loss", mistaken(loss=lambda s, m, b: m(b["x"]).sum(1))(small), "shape [60]", ShapeError),
    Mistake("float loss", mistaken(loss=lambda s, m, b: 1.0)(small), "loss() returned float", ShapeError),
    Mistake("loss without gradient", mistaken(loss=lambda s, m, b: torch.ones(()))(small), "in loss: RuntimeError"),
    Mistake("loss raises", mistaken(loss=lambda s, m, b: b["colour"])(small), "in loss: KeyError: 'colour'"),
    Mistake("NaN", mistaken(loss=lambda s, m, b: m(b["x"]).sum() * np.nan)(small), "nan at step 1", NonFiniteError),
    Mistake("replaced parameter", mistaken(loss=replacing)(small), "'0.weight' was replaced"),
    Mistake("label outside", Birds(small, {"x": INPUTS, "y": LABELS + 3}), "in loss"),
    Mistake("words", Birds(small, {"x": np.array(["a"] * 60), "y": LABELS}), "'x' as <U1", ShapeError),
    Mistake("no sample", Birds(small, {"y": LABELS}), "a batch has no 'x'", ShapeError),
    Mistake("collate", mistaken(collate=lambda s, a, r: 1 / 0)(small), "in collate: ZeroDivisionError"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_of_the_task_is_told(mistake):
    with pytest.raises(mistake.error) as caught:
        trained(opened(mistake.task), plan(batch_size=60))
    assert mistake.message in caught.value.message
    assert caught.value.hint


def test_a_mistake_in_scoring_names_file_and_line():
    adapter = opened(mistaken(scores=lambda s, m, b: 1 / 0)(small))
    with pytest.raises(TaskError, match=r"test_tasks_torch\.py:\d+, in evaluate: ZeroDivisionError"):
        adapter.evaluate(adapter.initial(0))


def test_sums_that_are_not_finite_are_refused():
    adapter = opened(mistaken(score_batch=lambda s, m, b: {"mean.examples": np.nan})(small))
    with pytest.raises(NonFiniteError, match=r"mean\.examples"):
        adapter.evaluate(adapter.initial(0))


@pytest.mark.parametrize("method", ["read", "model"])
def test_a_task_without_a_method_says_which(method):
    bare = type("Bare", (Birds,), {method: getattr(TorchTask, method)})
    with pytest.raises(TaskError, match=f"give your task a method {method}"):
        trained(opened(bare(small)))


def test_weights_of_a_longer_model_name_the_difference():
    weights = opened(Birds(lambda: nn.Sequential(*small(), nn.Linear(3, 3)))).initial(0)
    adapter = opened(Birds(small))
    with pytest.raises(ShapeError, match="6 tensors where 4 are needed"):
        adapter.evaluate(weights)
    with pytest.raises(ShapeError, match=r"tensor '0\.weight' is F32"):
        opened(Birds(lambda: nn.Linear(4, 3))).evaluate(weights)


def test_a_numpy_task_is_refused():
    with pytest.raises(TaskError, match="Clouds is no TorchTask"):
        opened(Clouds())


def test_a_device_that_is_not_there_is_refused():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(StateError, match="unknown device"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(StateError, match="needs a CUDA device"):
            choose_device("cuda")


def test_settling_leaves_one_thread_and_deterministic_algorithms_and_loads_no_compiler():
    code = (
        "from archipel.tasks.threads import settle_threads\n"
        "settle_threads('torch')\n"
        "import sys, torch, numpy, threadpoolctl\n"
        "assert not {'torch._inductor', 'torch._dynamo'} & set(sys.modules)\n"
        "assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()\n"
        "assert all(pool['num_threads'] == 1 for pool in threadpoolctl.threadpool_info())\n"
        "import torch._inductor.config\n"
        "assert torch._inductor.config.deterministic\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_neither_the_room_nor_the_numpy_adapter_imports_torch():
    code = (
        "import sys, archipel.tasks.load, archipel.tasks.numpy.adapter, archipel.tasks.metrics\n"
        "assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_does_not_import_torchs_optimizers():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tasks_benches import MATRIX\n"
        "import test_tasks_torch as t\n"
        "before = set(sys.modules)\n"
        "t.process_result()\n"
        "assert 'torch._dynamo' not in set(sys.modules) - before\n"
    )
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], check=True)
