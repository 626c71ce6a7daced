"""The numpy adapter: gradients by differences, steps by hand, optimizers beside torch's, exports beside scores."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks_benches import FEATURES, LABELS, MATRIX, STATISTICS, Clouds, NumpyBench, a_job, columns_of, site_data

from archipel.spec import DataError, LocalTraining, NonFiniteError, ShapeError, StorageFullError, TaskError
from archipel.tasks.conformance import moved, plan
from archipel.tasks.examples import epoch_batches
from archipel.tasks.labels import encode_labels
from archipel.tasks.metrics import summarise
from archipel.tasks.numpy import Network, NumpyTask, Split, feature_sums, rows_of, scaling
from archipel.tasks.numpy.adapter import NumpyAdapter
from archipel.tasks.numpy.network import Pass
from archipel.tasks.numpy.optimizer import FlatOptimizer
from archipel.tasks.numpy.task import feature_matrix


def loss_of(network, vector, inputs, labels):
    forward = Pass(network, vector, np.zeros_like(vector), len(inputs))
    scores = forward.scores(inputs)
    return -np.log(scores[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (5,), (4, 3)])
def test_the_gradient_is_that_of_differences(activation, hidden):
    network = Network(inputs=4, hidden=hidden, outputs=3, activation=activation, dtype="float64")
    rng = np.random.default_rng(1)
    inputs, labels = rng.normal(size=(7, 4)), rng.integers(0, 3, 7)
    vector = network.initial(3) + rng.normal(size=len(network.initial(3))) * 0.1
    gradient = np.zeros_like(vector)
    total = Pass(network, vector, gradient, 7).learn(inputs, labels)
    assert total / 7 == pytest.approx(loss_of(network, vector, inputs, labels))
    for place in range(len(vector)):
        nudge = np.zeros_like(vector)
        nudge[place] = 1e-6
        slope = (
            loss_of(network, vector + nudge, inputs, labels) - loss_of(network, vector - nudge, inputs, labels)
        ) / 2e-6
        assert gradient[place] == pytest.approx(slope, abs=1e-7), place


def test_the_loss_of_a_row_that_is_sure_and_wrong_is_finite():
    # Logits (-200, 200): p of class 0 is exp(-400), 0 in float32; its loss is 400, the gradient of the logits (-1, 1).
    network = Network(inputs=1, outputs=2)
    gradient = np.zeros(4, np.float32)
    vector = np.array([-200, 200, 0, 0], np.float32)
    loss = Pass(network, vector, gradient, 1).learn(np.ones((1, 1), np.float32), np.array([0]))
    assert loss == 400
    assert gradient.tolist() == [-1, 1, -1, 1]


def test_a_step_of_softmax_regression_is_the_one_computed_by_hand():
    # One row x = (1, 2) of class 0, weights zero: scores 1/2, gradient of logits (-1/2, 1/2).
    network = Network(inputs=2, outputs=2, dtype="float64")
    gradient = np.zeros(6)
    loss = Pass(network, np.zeros(6), gradient, 1).learn(np.array([[1.0, 2.0]]), np.array([0]))
    assert loss == pytest.approx(np.log(2))
    assert gradient.tolist() == [-0.5, 0.5, -1.0, 1.0, -0.5, 0.5]


OPTIMIZERS = [
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "weight_decay": 0.1},
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    {"optimizer": "adam"},
    {"optimizer": "adam", "weight_decay": 0.1},
    {"optimizer": "adamw", "weight_decay": 0.1},
]


@pytest.mark.torch
@pytest.mark.parametrize("choice", OPTIMIZERS, ids=str)
def test_steps_are_torchs(choice):
    torch = pytest.importorskip("torch")
    local = LocalTraining(**choice)
    makers = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    options = {"weight_decay": local.weight_decay} | ({"momentum": local.momentum} if local.momentum else {})
    rng = np.random.default_rng(0)
    ours = rng.normal(size=50).astype(np.float32)
    theirs = torch.nn.Parameter(torch.tensor(ours))
    reference = makers[local.optimizer]([theirs], lr=0.05, **options)
    optimizer = FlatOptimizer(local, 0.05, ours)
    for _ in range(30):
        gradient = rng.normal(size=50).astype(np.float32)
        theirs.grad = torch.tensor(gradient)
        reference.step()
        optimizer.step(gradient)
    assert np.allclose(ours, theirs.detach().numpy(), atol=1e-6)


@given(rows=st.integers(1, 70), size=st.integers(1, 80), epochs=st.integers(0, 3), seed=st.integers(0, 99))
def test_each_epoch_visits_every_row_once(rows, size, epochs, seed):
    batches = list(epoch_batches(rows, plan(epochs=epochs, batch_size=size, seed=(seed,))))
    for epoch in range(epochs):
        visited = [part for number, part in batches if number == epoch]
        assert np.sort(np.concatenate(visited)).tolist() == list(range(rows))
        assert [len(part) for part in visited[:-1]] == [size] * (len(visited) - 1)


def test_the_order_is_that_of_numpys_generator():
    rng = np.random.default_rng((4, 5))
    expected = [rng.permutation(6).tolist() for _ in range(2)]
    batches = [part.tolist() for _, part in epoch_batches(6, plan(epochs=2, batch_size=6, seed=(4, 5)))]
    assert batches == expected


def test_another_process_gives_the_same_bytes():
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_tasks_numpy import trained\nprint(hashlib.sha256(trained().tobytes()).hexdigest())"
    )
    here = str(Path(__file__).parent)
    out = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == hashlib.sha256(trained().tobytes()).hexdigest()


def trained():
    adapter = NumpyBench().open(np.arange(60), np.arange(60))
    return adapter.train(adapter.initial(1), plan(epochs=3, momentum=0.9), lambda _: None).delta


class Shaped(Clouds):
    network = Network(inputs=4, outputs=3)
    matrix = MATRIX

    def read(self, site, statistics):
        part = {"birds": self.matrix[self.train], "kind": LABELS[self.train]}
        return Split(train=part, test=part)

    features = ("birds",)

    def model(self, statistics):
        return self.network


def opened(task, **job):
    return NumpyAdapter(a_job(**job), task, site_data(), STATISTICS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [(), (8, 8)])
def test_any_network_exports_what_it_scores(tmp_path, dtype, hidden):
    task = Shaped()
    mean, scale = scaling(STATISTICS)
    task.network = Network(inputs=4, hidden=hidden, outputs=3, activation="relu", mean=mean, scale=scale, dtype=dtype)
    adapter = opened(task)
    weights = adapter.initial(2)
    weights = moved(weights, adapter.train(weights, plan(), lambda _: None))
    assert weights.vector.dtype == dtype
    adapter.export(weights, tmp_path / "m.onnx")
    session = ort.InferenceSession(tmp_path / "m.onnx")
    assert session.get_inputs()[0].shape == ["rows", 4]
    scores = session.run(["probabilities"], {"birds": MATRIX.astype(dtype)})[0]
    assert np.allclose(scores, adapter.scores(weights, task.network.scaled(MATRIX)), atol=1e-6)


def test_a_missing_feature_counts_as_the_mean_in_scores_and_export(tmp_path):
    holes = MATRIX.copy()
    holes[::7, 1] = np.nan
    task = Shaped()
    task.matrix = holes
    mean, scale = scaling(feature_sums(holes))
    task.network = Network(inputs=4, outputs=3, mean=mean, scale=scale)
    adapter = opened(task)
    weights = moved(adapter.initial(0), adapter.train(adapter.initial(0), plan(), lambda _: None))
    adapter.export(weights, tmp_path / "m.onnx")
    scores = ort.InferenceSession(tmp_path / "m.onnx").run(None, {"birds": holes.astype(np.float32)})[0]
    assert np.allclose(scores, adapter.scores(weights, task.network.scaled(holes)), atol=1e-6)
    assert np.isfinite(scores).all()
    filled = np.where(np.isnan(holes), mean, holes)
    assert np.allclose(scores, adapter.scores(weights, task.network.scaled(filled)), atol=1e-6)


def test_features_that_fit_no_input_cannot_be_exported(tmp_path):
    class Odd(Clouds):
        features = ("birds", "mass")

        def read(self, site, statistics):
            part = {"birds": MATRIX[:, :3], "mass": MATRIX[:, 3], "kind": LABELS}
            return Split(train=part, test=part)

        def model(self, statistics):
            return Network(inputs=4, outputs=3)

    adapter = opened(Odd())
    assert adapter.evaluate(adapter.initial(0))["classification.examples"] == 60
    with pytest.raises(ShapeError, match="2 features for 4 inputs"):
        adapter.export(adapter.initial(0), tmp_path / "m.onnx")


def test_the_export_has_the_same_bytes_each_time(tmp_path):
    adapter = NumpyBench().open(np.arange(60), np.arange(60))
    for name in ("a", "b"):
        adapter.export(adapter.initial(0), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_full_disk_is_named_as_such():
    adapter = NumpyBench().open(np.arange(60), np.arange(60))
    with pytest.raises(StorageFullError):
        adapter.export(adapter.initial(0), Path("/dev/full"))


def test_data_are_read_once_and_only_when_needed(tmp_path):
    class Counting(Clouds):
        reads = 0

        def read(self, site, statistics):
            self.reads += 1
            return super().read(site, statistics)

    task = Counting()
    adapter = opened(task)
    adapter.export(adapter.initial(0), tmp_path / "m.onnx")
    assert task.reads == 0
    for _ in range(3):
        adapter.evaluate(adapter.initial(0))
        adapter.train(adapter.initial(0), plan(), lambda _: None)
    assert task.reads == 1


def test_histograms_stay_where_the_job_forbids_them():
    assert "classification.histogram" not in opened(Clouds(), histograms=False).evaluate(opened(Clouds()).initial(0))


def test_validation_rows_are_scored_when_asked():
    class Valid(Clouds):
        def read(self, site, statistics):
            return Split(train=columns_of(self.train), test=columns_of(self.test), validation=columns_of(np.arange(5)))

    adapter = opened(Valid())
    assert adapter.evaluate(adapter.initial(0), "validation")["classification.examples"] == 5


def test_an_infinite_feature_names_the_step():
    broken = MATRIX.copy()
    broken[0, 0] = np.inf
    task = Shaped()
    task.matrix = broken
    with pytest.raises(NonFiniteError, match="step"), np.errstate(all="ignore"):
        opened(task).train(opened(task).initial(0), plan(), lambda _: None)


def test_the_default_task_learns_the_clouds():
    adapter = opened(Clouds())
    weights = adapter.initial(0)
    result = adapter.train(weights, plan(epochs=30, rate=0.2), lambda _: None)
    assert summarise(adapter.evaluate(moved(weights, result)))["accuracy"] > 0.95


def test_scaling_sums_of_two_sites_give_the_pooled_constants():
    one, two = feature_sums(MATRIX[:20]), feature_sums(MATRIX[20:])
    mean, scale = scaling({name: one[name] + two[name] for name in one})
    assert np.allclose(mean, MATRIX.mean(axis=0))
    assert np.allclose(scale, MATRIX.std(axis=0))


def test_scaling_survives_constants_gaps_and_nothing():
    mean, scale = scaling(feature_sums(np.array([[2007.0, np.nan], [2007.0, np.nan]])))
    assert mean.tolist() == [2007.0, 0.0]
    assert scale.tolist() == [1.0, 1.0]
    assert scaling({}) == (None, None)
    assert scaling(feature_sums(np.zeros((0, 2))))[1].tolist() == [1.0, 1.0]
    with pytest.raises(ShapeError):
        feature_sums(np.zeros(3))


def test_the_default_statistics_cover_training_rows_only():
    task = Clouds(train=np.arange(10))
    sums = task.statistics(site_data())
    assert sums["features.sum"].tolist() == pytest.approx(MATRIX[:10].sum(axis=0).tolist())
    assert set(sums) == set(STATISTICS)


def test_labels_are_their_places_among_the_classes():
    assert encode_labels(np.array(["b", "a", "b"]), ("a", "b")).tolist() == [1, 0, 1]
    assert encode_labels(np.array([2007, 2009]), ("2007", "2008", "2009")).tolist() == [0, 2]
    with pytest.raises(DataError) as caught:
        encode_labels(np.array(["SECRET"]), ("a", "b"))
    assert "SECRET" not in caught.value.message + caught.value.hint


def test_rows_are_chosen_by_mask_or_number():
    samples = {"x": np.arange(4)}
    assert rows_of(samples, np.array([True, False, True, False]))["x"].tolist() == [0, 2]
    assert rows_of(samples, np.array([3, 0]))["x"].tolist() == [3, 0]


def test_features_are_stacked_in_their_order():
    samples = {"b": np.array([1, 2]), "a": np.array([[3, 4], [5, 6]])}
    assert feature_matrix(samples, ("b", "a")).tolist() == [[1, 3, 4], [2, 5, 6]]
    with pytest.raises(ShapeError, match="names no features"):
        feature_matrix(samples, ())
    with pytest.raises(ShapeError, match=r"shape \(1, 1, 1\)"):
        feature_matrix({"x": np.zeros((1, 1, 1))}, ("x",))


def test_a_task_without_read_says_what_is_missing():
    class Empty(NumpyTask):
        features = FEATURES
        classes = ("a", "b")

    with pytest.raises(TaskError, match="give your task a method read"):
        adapter = opened(Empty())
        adapter.evaluate(adapter.initial(0))
