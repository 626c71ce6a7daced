"""The JAX adapter: what is in the vector, steps beside the numpy adapter's, executors against the loop, mistakes."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest
from tasks_benches import LABELS, MATRIX, STATISTICS, Clouds, a_job, site_data

from archipel.spec import LocalTraining, NonFiniteError, ShapeError, StateError, TaskError
from archipel.tasks.conformance import moved, plan
from archipel.tasks.executors import offered, open_executor
from archipel.tasks.metrics import summarise
from archipel.tasks.numpy import Network
from archipel.tasks.numpy.adapter import NumpyAdapter
from archipel.tasks.port import LocalPlan, Weights

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from archipel.tasks.jax import JaxTask, Split  # noqa: E402
from archipel.tasks.jax.adapter import JaxAdapter  # noqa: E402

INPUTS = (MATRIX - MATRIX.mean(axis=0)) / MATRIX.std(axis=0)
SIZES = (9, 24, 1, 40, 8)  # short batches have one row


class Layers(JaxTask):
    """A task whose layers lie in the vector as those of numpy's Network do; a test gives samples and attributes."""

    classes = ("one", "two", "three")
    features = ("x",)
    label = "y"
    hidden = (5,)

    def __init__(self, samples=None, **attributes):
        self.given = {"x": INPUTS, "y": LABELS} if samples is None else samples
        for name, value in attributes.items():
            setattr(self, name, value)

    def read(self, site, statistics):
        return Split(train=self.given, test=self.given)

    def init(self, key, statistics):
        # By numpy, from the key: what jax.random compiles would cost each test a second.
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        widths = (4, *self.hidden, 3)
        return [(rng.normal(size=pair) / 2, np.zeros(pair[1])) for pair in itertools.pairwise(widths)]

    def forward(self, params, batch, key):
        top = batch["x"]
        for place, (weight, bias) in enumerate(params):
            top = (jnp.tanh(top) if place else top) @ weight + bias
        return top


class Logistic(Layers):
    hidden = ()


def opened(task, **job):
    return JaxAdapter(a_job("jax", **job), task, site_data(), STATISTICS)


def trained(adapter, what=None, seed=0):
    return adapter.train(adapter.initial(seed), what or plan(), lambda _: None)


def names(adapter):
    return [tensor.name for tensor in adapter.initial(0).manifest.tensors]


# ---- steps -----------------------------------------------------------------------------------------------------

LOCALS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9, "weight_decay": 0.01},
    {"clip_norm": 0.1, "proximal": 0.3},
    {"optimizer": "adam", "rate": 0.01, "weight_decay": 0.01},
    {"optimizer": "adamw", "rate": 0.01, "weight_decay": 0.1, "correction": True},
]


@pytest.mark.parametrize(
    ("local", "dtype", "allowed"),
    [*((local, "float64", 1e-12) for local in LOCALS), *((local, "float32", 1e-6) for local in LOCALS[2:4])],
    ids=str,
)
def test_deltas_are_those_of_the_numpy_adapter(local, dtype, allowed):
    class Same(Clouds):
        def model(self, statistics):
            mean, scale = MATRIX.mean(axis=0), MATRIX.std(axis=0)
            return Network(inputs=4, hidden=(5,), outputs=3, dtype=dtype, mean=mean, scale=scale)

    # The same numbers reach both: float32 is scaled after it is rounded by the one, before by the other.
    scaled = NumpyAdapter(a_job(), Same(), site_data(), STATISTICS)._train_arrays[0]
    theirs, ours = (
        NumpyAdapter(a_job(), Same(), site_data(), {}),
        opened(Layers({"x": scaled, "y": LABELS}, dtype=dtype)),
    )
    start = theirs.initial(0)
    correction = np.linspace(-0.1, 0.1, start.vector.size).astype(dtype) if local.get("correction") else None
    what = plan(epochs=3, batch_size=12, **{**local, "correction": correction})
    expected = theirs.train(start, what, lambda _: None)
    found = ours.train(msgspec.structs.replace(start, manifest=ours.initial(0).manifest), what, lambda _: None)
    assert found.delta.dtype == np.dtype(dtype)
    assert np.abs(found.delta - expected.delta).max() < allowed
    assert np.abs(expected.delta).max() > 1e-3
    assert found.loss_sum == pytest.approx(expected.loss_sum, rel=1e-5)


def test_groups_move_at_their_own_rates():
    step = plan(epochs=1, batch_size=60)
    plain = trained(opened(Logistic()), step).delta
    grouped = trained(opened(Logistic(parameter_groups=lambda: {"0.": 0.0, "0.1": 0.5})), step).delta
    assert not grouped[:12].any()
    assert np.allclose(grouped[12:], 0.5 * plain[12:], atol=1e-7)
    with pytest.raises(TaskError, match=r"'encoder\.'"):
        opened(Logistic(parameter_groups=lambda: {"encoder.": 0.1})).initial(0)


def test_a_step_draws_from_the_seed_of_its_plan_and_a_score_from_nothing():
    class Noisy(Logistic):
        def forward(self, params, batch, key):
            kept = 1.0 if key is None else jax.random.bernoulli(key, 0.5, batch["x"].shape) * 2.0
            return super().forward(params, {"x": batch["x"] * kept}, key)

    one, two, step = opened(Noisy()), opened(Noisy()), plan(batch_size=60)
    delta = trained(one, step).delta
    assert delta.tobytes() == trained(one, step).delta.tobytes() == trained(two, step).delta.tobytes()
    assert delta.tobytes() != trained(opened(Logistic()), step).delta.tobytes()
    assert summarise(one.evaluate(one.initial(0))) == summarise(opened(Logistic()).evaluate(one.initial(0)))
    with pytest.raises(TaskError, match="cannot be compiled: its loss draws at random"):
        open_executor("compiled", one)


def test_rows_around_a_client_do_not_change_its_bits():
    chosen, what = np.arange(7, 30, 2), plan(seed=(5, 6), batch_size=6)
    alone = opened(Layers({"x": INPUTS[chosen], "y": LABELS[chosen]}))
    expected = trained(alone, what)
    found = trained(opened(Layers()), msgspec.structs.replace(what, rows=chosen))
    assert found.delta.tobytes() == expected.delta.tobytes()


# ---- executors -------------------------------------------------------------------------------------------------


def plans(**local: Any) -> list[LocalPlan]:
    training = msgspec.convert({"batch_size": 8, "epochs": 2, **local}, LocalTraining)
    rng = np.random.default_rng(1)
    return [
        LocalPlan(
            local=training,
            learning_rate=training.learning_rate,
            epochs=training.epochs,
            seed=(at,),
            client=f"c{at}",
            rows=rng.choice(60, size, replace=False),
        )
        for at, size in enumerate(SIZES)
    ]


@pytest.mark.parametrize(("dtype", "rounds", "allowed"), [("float64", 20, 1e-9), ("float32", 3, 1e-4)])
def test_rounds_by_both_executors_end_at_the_same_weights(dtype, rounds, allowed):
    adapter = opened(Layers(dtype=dtype))
    ends = []
    for executor in ("loop", "compiled"):
        ready, weights = open_executor(executor, adapter), adapter.initial(0)
        for _ in range(rounds):
            deltas = [one.delta for one in ready.train(weights, plans(learning_rate=0.05, epochs=1, momentum=0.5))]
            weights = Weights(manifest=weights.manifest, vector=weights.vector + np.mean(deltas, axis=0))
        ends.append(weights.vector)
    assert ends[0].dtype == ends[1].dtype == np.dtype(dtype)
    assert np.abs(ends[0] - ends[1]).max() < allowed
    assert np.abs(ends[0] - adapter.initial(0).vector).max() > 1e-2


def test_what_local_training_does_besides_is_compiled_to_the_weights_of_the_loop():
    local = {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 0.2}
    adapter = opened(Logistic(dtype="float64", parameter_groups=lambda: {"0.1": 0.5}))
    weights = adapter.initial(0)
    correction = np.linspace(-0.01, 0.01, weights.vector.size)
    given = [msgspec.structs.replace(one, proximal=0.2, correction=correction) for one in plans(**local)]
    expected = list(open_executor("loop", adapter).train(weights, given))
    for one, other in zip(open_executor("compiled", adapter).train(weights, given), expected, strict=True):
        assert (one.examples, one.steps, one.loss_examples) == (other.examples, other.steps, other.loss_examples)
        assert one.loss_sum == pytest.approx(other.loss_sum, rel=1e-9)
        assert np.abs(one.delta - other.delta).max() < 1e-9
    shares = [size / sum(SIZES) for size in SIZES]
    mean = open_executor("compiled", adapter).train_mean(weights, given, shares)
    expected_mean = sum(share * one.delta for share, one in zip(shares, expected, strict=True))
    assert np.abs(mean.delta - expected_mean).max() < 1e-9


def test_stacked_is_refused_by_name():
    adapter = opened(Logistic())
    assert offered(adapter) == ("loop", "compiled")
    with pytest.raises(TaskError, match="JaxAdapter has no executor 'stacked'"):
        open_executor("stacked", adapter)


def test_a_loss_that_is_not_a_mean_over_rows_is_not_compiled():
    class Summed(Logistic):
        def loss(self, params, batch, key):
            return super().loss(params, batch, key) * len(batch["y"])

    with pytest.raises(TaskError, match="is not the mean of its rows' losses"):
        open_executor("compiled", opened(Summed()))


@pytest.mark.parametrize("executor", ["loop", "compiled"])
def test_a_client_that_diverges_is_named(executor):
    adapter = opened(Logistic())
    given = plans(learning_rate=0.05)
    given[3] = msgspec.structs.replace(given[3], correction=np.full(15, np.nan, np.float32))
    with pytest.raises(NonFiniteError, match=r"^c3: "):
        list(open_executor(executor, adapter).train(adapter.initial(0), given))


def test_double_precision_ends_with_the_computation():
    adapter = opened(Logistic(dtype="float64"))
    assert trained(adapter).delta.dtype == np.float64
    open_executor("compiled", adapter)
    assert jnp.zeros(1).dtype == jnp.float32
    assert not jax.config.jax_enable_x64


# ---- what is in the vector -------------------------------------------------------------------------------------


def test_what_is_not_trainable_stays_home_and_is_the_same_everywhere():
    one, two = (opened(Layers(trainable=lambda name: name.startswith("1.")), seed=4) for _ in range(2))
    assert names(one) == ["1.0", "1.1"]
    weights = one.initial(9)
    one.train(weights, plan(epochs=1, batch_size=60), lambda _: None)
    for key, value in one.evaluate(weights).items():
        assert value.tobytes() == two.evaluate(weights)[key].tobytes()
    nothing = opened(Layers(trainable=lambda _name: False))
    assert nothing.initial(0).vector.shape == (0,)
    with pytest.raises(TaskError, match="no parameter to train"):
        trained(nothing)


def test_names_are_paths_and_a_single_array_has_one_too():
    tree = {"head": jnp.ones(2), "body": {"layers": [jnp.ones((2, 2))]}}
    adapter = opened(Layers(init=lambda _key, _statistics: tree, parameter_groups=lambda: {"body.": 0.5}))
    assert names(adapter) == ["body.layers.0", "head"]
    assert adapter.initial(0).multipliers == {"body.": 0.5}
    assert names(opened(Layers(init=lambda _key, _statistics: jnp.ones(3)))) == ["weights"]


TREES = [
    ({"a": jnp.ones(2, jnp.int32)}, r"parameter 'a' is int32"),
    ({"a": {"b": jnp.ones(2)}, "a.b": jnp.ones(2)}, r"two parameters are named 'a.b'"),
    ({"a": "relu"}, r"init\(\) returns 'a' as str"),
]


@pytest.mark.parametrize(("tree", "message"), TREES, ids=[message for _, message in TREES])
def test_parameters_that_cannot_travel_are_refused(tree, message):
    with pytest.raises(ShapeError, match=message):
        opened(Layers(init=lambda _key, _statistics: tree)).initial(0)


# ---- samples, losses, scores -----------------------------------------------------------------------------------

SAMPLES = [
    ({"x": INPUTS, "y": LABELS + 1}, "a label is outside the task's 3 classes"),
    ({"x": INPUTS, "y": LABELS - 1}, "a label is outside the task's 3 classes"),
    ({"x": np.full((60, 4), 2**40), "y": LABELS}, "'x' holds whole numbers beyond 32 bits"),
    ({"x": np.full((60, 4), "wide"), "y": LABELS}, "read.. gives 'x' as <U4"),
    ({"x": INPUTS}, "a batch has no 'y'"),
]


@pytest.mark.parametrize(("samples", "message"), SAMPLES, ids=[message for _, message in SAMPLES])
def test_samples_that_cannot_be_computed_with_are_refused(samples, message):
    with pytest.raises(ShapeError, match=message):
        trained(opened(Logistic(samples)))


def test_a_loss_of_many_numbers_is_refused_and_an_error_names_file_and_line():
    with pytest.raises(ShapeError, match=r"an array of shape \(8,\)"):
        trained(opened(Logistic(loss=lambda _params, batch, _key: batch["x"][:, 0])))

    class Wrong(Logistic):
        def forward(self, params, batch, key):
            return batch["x"] @ params[0][0].T

    with pytest.raises(TaskError, match=r"test_tasks_jax.py:\d+, in loss: TypeError"):
        trained(opened(Wrong()))


def test_one_logit_a_row_is_the_odds_of_the_second_class():
    samples = {"x": INPUTS, "y": (LABELS == 1).astype(np.int64)}
    task = Logistic(samples, classes=("no", "yes"), init=lambda _key, _statistics: [(jnp.zeros((4, 1)), jnp.zeros(1))])
    adapter = opened(task)
    start = adapter.initial(0)
    assert summarise(adapter.evaluate(start))["log_loss"] == pytest.approx(np.log(2))
    found = adapter.train(start, plan(epochs=1, batch_size=60, rate=1.0), lambda _: None)
    # The slope of the mean log-loss at p = 1/2, by hand: mean of (1/2 - y) x.
    slope = ((0.5 - samples["y"])[:, None] * np.hstack([INPUTS, np.ones((60, 1))])).mean(axis=0)
    assert np.allclose(found.delta, -slope, atol=1e-6)
    assert found.loss_sum == pytest.approx(60 * np.log(2), rel=1e-6)


def test_padded_tags_count_neither_in_the_loss_nor_in_the_scores():
    words = np.array([[0, 1, 2], [2, 1, 0]])
    tags = np.array([[0, 1, -100], [1, -100, -100]])

    class Tags(JaxTask):
        classes, features, label, metrics = ("O", "B-PER"), ("words",), "tags", "tagging"

        def read(self, site, statistics):
            return Split(train={"words": words, "tags": tags}, test={"words": words, "tags": tags})

        def init(self, key, statistics):
            return {"table": jnp.zeros((3, 2))}

        def forward(self, params, batch, key):
            return params["table"][batch["words"]]

    adapter = opened(Tags())
    start = adapter.initial(0)
    found = adapter.train(start, plan(epochs=1, batch_size=2, rate=3.0), lambda _: None)
    # Word 0 is O once, 1 and 2 are B-PER once each; three words have a tag: a step of 3 * (1/2) / 3.
    assert np.allclose(found.delta, [0.5, -0.5, -0.5, 0.5, -0.5, 0.5], atol=1e-6)
    figures = summarise(adapter.evaluate(moved(start, found)))
    assert (figures["examples"], figures["entity_f1"]) == (3.0, 1.0)


def test_figures_of_a_tasks_own_are_added_over_batches():
    class Regression(Logistic):
        classes, evaluation_rows = (), 25

        def init(self, key, statistics):
            return jnp.ones(4)

        def scores(self, params, batch):
            return batch["x"] @ params

        def sums(self, scores, batch):
            return {"mean.examples": len(scores), "mean.squared_error": np.square(scores).sum()}

    adapter = opened(Regression())
    found = adapter.evaluate(adapter.initial(0))
    assert found["mean.examples"] == 60
    assert found["mean.squared_error"] == pytest.approx(np.square(INPUTS.sum(axis=1)).sum(), rel=1e-5)


def test_histograms_stay_home_where_the_job_says_so():
    for histograms in (True, False):
        adapter = opened(Logistic(), histograms=histograms)
        assert ("classification.histogram" in adapter.evaluate(adapter.initial(0))) is histograms


def test_what_is_no_jax_task_and_a_device_that_is_not_there_are_refused():
    with pytest.raises(TaskError, match="Clouds is no JaxTask"):
        opened(Clouds())
    with pytest.raises(TaskError, match="the task's dtype is 'float16'"):
        opened(Logistic(dtype="float16"))
    job = a_job("jax")
    for device, message in (("cuda", "needs a CUDA device"), ("tpu", "unknown device")):
        resources = msgspec.structs.replace(job.resources, device=device)
        with pytest.raises(StateError, match=message):
            JaxAdapter(msgspec.structs.replace(job, resources=resources), Logistic(), site_data(), {})
