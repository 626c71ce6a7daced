"""The laws every adapter keeps, published so that an adapter of your own can be held to them.

    @pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
    def test_adapter_keeps_the_law(law, tmp_path):
        law(MyBench(), tmp_path)

A bench opens the adapter on chosen rows of a small classification data set of its own: at least 40 rows, at least two
classes, no class rarer than 5 rows; a model without dropout and without running means, trainable by SGD at rate 0.05.
A law that is broken raises AssertionError with the two things that should have agreed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from archipel.spec import LocalTraining, NonFiniteError, ShapeError, TaskError, manifest_of
from archipel.tasks.metrics import Classification
from archipel.tasks.port import Adapter, LocalPlan, Sums, Trained, Weights

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
RATE = 0.05


class Bench(Protocol):
    """What the suite needs to know about an adapter."""

    def open(self, train: Rows, test: Rows) -> Adapter:
        """Open an adapter whose training and test parts are these rows of the bench's data set, on the CPU."""
        ...

    def inputs(self, rows: Rows) -> Mapping[str, Array]:
        """Return the rows as the exported model's inputs."""
        ...

    def labels(self) -> Array:
        """Return the class number of every row."""
        ...


Law = Callable[[Bench, Path], None]


def plan(*, seed: tuple[int, ...] = (1, 2), epochs: int = 2, rate: float = RATE, **local: Any) -> LocalPlan:
    """Return a plan of SGD with batches of 8, unless `local` (and proximal, correction) says otherwise."""
    extras = {name: local.pop(name) for name in ("proximal", "correction") if name in local}
    training = LocalTraining(**{"batch_size": 8, "learning_rate": RATE, **local})
    return LocalPlan(local=training, learning_rate=rate, epochs=epochs, seed=seed, **extras)


def same_seed_gives_the_same_bytes(bench: Bench, _: Path) -> None:
    """Two adapters, and one adapter twice, do the same with the same seed, and something else with another."""
    one, two = _all(bench), _all(bench)
    first = one.initial(7)
    _equal(first.vector, two.initial(7).vector, "first weights of one seed")
    assert first.vector.tobytes() != one.initial(8).vector.tobytes(), "another seed gives other first weights"
    trained = _train(one, first, plan())
    _equal(trained.delta, _train(one, first, plan()).delta, "the same adapter trained twice")
    _equal(trained.delta, _train(two, first, plan()).delta, "two adapters trained")
    other = _train(one, first, plan(seed=(1, 3)))
    assert trained.delta.tobytes() != other.delta.tobytes(), "another seed orders the examples in another way"


def training_does_not_change_its_arguments(bench: Bench, _: Path) -> None:
    """Weights and correction are as they were after `train`, and read-only arrays are taken."""
    adapter = _all(bench)
    weights = adapter.initial(0)
    correction = np.full_like(weights.vector, 0.01)
    before = weights.vector.copy(), correction.copy()
    weights.vector.flags.writeable = False
    correction.flags.writeable = False
    _train(adapter, weights, plan(correction=correction, proximal=0.1))
    adapter.evaluate(weights)
    _equal(weights.vector, before[0], "the weights after training")
    _equal(correction, before[1], "the correction after training")


def no_learning_gives_a_delta_of_zeros(bench: Bench, _: Path) -> None:
    """Rate 0, or no epochs, changes nothing, whatever the optimizer."""
    adapter = _all(bench)
    weights = adapter.initial(0)
    for idle in (plan(epochs=0), plan(rate=0.0), plan(rate=0.0, momentum=0.9), plan(rate=0.0, optimizer="adamw")):
        trained = _train(adapter, weights, idle)
        assert not trained.delta.any(), f"delta of {idle}"
    assert _train(adapter, weights, plan(epochs=0)).steps == 0, "no epochs, no steps"


def an_epoch_covers_each_example_once(bench: Bench, _: Path) -> None:
    """Steps, examples and the examples behind the loss are those of whole epochs; the last short batch counts."""
    rows = np.arange(19)
    adapter = bench.open(rows, rows)
    told: list[float] = []
    trained = adapter.train(adapter.initial(0), plan(epochs=3), told.append)
    assert (trained.steps, trained.examples, trained.loss_examples) == (9, 19, 19), trained
    assert told == sorted(told), told
    assert told[-1] == 1.0, told
    frozen = _train(adapter, adapter.initial(0), plan(epochs=1, rate=0.0))
    mean = float(adapter_log_loss(adapter, adapter.initial(0)))
    assert np.isclose(frozen.loss_sum / 19, mean, rtol=1e-4), (frozen.loss_sum / 19, mean)


def training_lowers_the_loss(bench: Bench, _: Path) -> None:
    """Every optimizer learns the bench's data."""
    adapter = _all(bench)
    weights = adapter.initial(0)
    before = adapter_log_loss(adapter, weights)
    choices: tuple[dict[str, Any], ...] = (
        {},
        {"momentum": 0.9},
        {"optimizer": "adam", "rate": 0.01},
        {"optimizer": "adamw", "rate": 0.01, "weight_decay": 0.01},
        {"clip_norm": 0.5},
    )
    for choice in choices:
        after = adapter_log_loss(adapter, moved(weights, _train(adapter, weights, plan(epochs=5, **choice))))
        assert after < before, f"{choice}: {after} is not below {before}"


def the_proximal_term_pulls_towards_the_start(bench: Bench, _: Path) -> None:
    """A larger mu leaves the weights nearer to where they began; the first step does not know it."""
    adapter = _all(bench)
    weights = adapter.initial(0)
    sizes = [float(np.linalg.norm(_train(adapter, weights, plan(epochs=5, proximal=mu)).delta)) for mu in (0, 1.0, 5.0)]
    assert sizes == sorted(sizes, reverse=True), sizes
    assert len(set(sizes)) == 3, sizes
    rows = len(bench.labels())
    _equal(
        _train(adapter, weights, plan(epochs=1, batch_size=rows)).delta,
        _train(adapter, weights, plan(epochs=1, batch_size=rows, proximal=5.0)).delta,
        "a first step with and without the proximal term",
    )


def the_correction_moves_a_step_by_rate_times_itself(bench: Bench, _: Path) -> None:
    """SCAFFOLD's correction is added to the gradient as it is."""
    adapter = _all(bench)
    weights = adapter.initial(0)
    correction = np.linspace(-1, 1, len(weights.vector)).astype(weights.vector.dtype)
    one_step: dict[str, Any] = {"epochs": 1, "batch_size": len(bench.labels())}
    plain = _train(adapter, weights, plan(**one_step)).delta
    corrected = _train(adapter, weights, plan(**one_step, correction=correction)).delta
    assert np.allclose(corrected - plain, -RATE * correction, atol=1e-6), "corrected step"


def clipping_bounds_a_step(bench: Bench, _: Path) -> None:
    """A step of SGD is no longer than rate times clip_norm, and a bound above the gradient changes nothing."""
    adapter = _all(bench)
    weights = adapter.initial(0)
    one_step: dict[str, Any] = {"epochs": 1, "batch_size": len(bench.labels())}
    clipped = _train(adapter, weights, plan(**one_step, clip_norm=0.01)).delta
    assert np.isclose(np.linalg.norm(clipped), RATE * 0.01, rtol=1e-3), np.linalg.norm(clipped)
    free = _train(adapter, weights, plan(**one_step))
    _equal(_train(adapter, weights, plan(**one_step, clip_norm=1e6)).delta, free.delta, "a step under a wide bound")


def sums_add_over_a_split_of_the_rows(bench: Bench, _: Path) -> None:
    """Sums of two halves add up to the sums of the whole."""
    rows = np.arange(len(bench.labels()))
    halves = [bench.open(rows, rows[rows % 2 == half]) for half in (0, 1)]
    whole = _all(bench)
    weights = whole.initial(0)
    parts = [half.evaluate(weights) for half in halves]
    for name, value in whole.evaluate(weights).items():
        added = parts[0][name] + parts[1][name]
        assert value.dtype == np.float64, f"{name} is {value.dtype}"
        assert np.allclose(added, value, rtol=1e-5), f"{name}: {added} is not {value}"


def export_answers_as_evaluate_scores(bench: Bench, folder: Path) -> None:
    """The exported model gives the evaluated scores, for all rows at once, for one and for another number of rows."""
    import onnxruntime as ort  # noqa: PLC0415 (only this law needs it)

    adapter = _all(bench)
    weights = adapter.initial(0)
    weights = moved(weights, _train(adapter, weights, plan()))
    target = folder / "model.onnx"
    adapter.export(weights, target)
    assert [file.name for file in folder.iterdir()] == ["model.onnx"], "one file"
    session = ort.InferenceSession(target.read_bytes(), providers=["CPUExecutionProvider"])
    labels = bench.labels()
    everyone = np.arange(len(labels))
    scores = session.run(None, dict(bench.inputs(everyone)))[0]
    needed, got = adapter.evaluate(weights), Classification().sums(scores, labels)
    assert np.isclose(got["classification.log_loss"] / len(labels), adapter_log_loss(adapter, weights), atol=1e-5)
    assert got["classification.correct"] == needed["classification.correct"], "rows scored rightly"
    for rows in (everyone[:1], everyone[3:8]):
        part = session.run(None, dict(bench.inputs(rows)))[0]
        assert np.allclose(part, scores[rows], atol=1e-5), f"scores of {len(rows)} rows"


def a_loss_that_is_not_finite_names_its_step(bench: Bench, _: Path) -> None:
    """A diverging training stops with NonFiniteError."""
    adapter = _all(bench)
    with np.errstate(all="ignore"):
        error = _raised(lambda: _train(adapter, adapter.initial(0), plan(rate=1e37, momentum=0.9)), NonFiniteError)
    assert "step" in error.message, error.message


def weights_of_another_model_are_refused(bench: Bench, folder: Path) -> None:
    """A wrong manifest, length or dtype is a ShapeError in every call that takes weights."""
    adapter = _all(bench)
    good = adapter.initial(0)
    stranger = manifest_of([("stranger", good.vector.shape, good.vector.dtype)])
    bad = (
        Weights(manifest=stranger, vector=good.vector),
        Weights(manifest=good.manifest, vector=good.vector[:-1]),
        Weights(manifest=good.manifest, vector=good.vector.astype(np.float16)),
    )
    for weights in bad:
        _raised(partial(_train, adapter, weights, plan()), ShapeError)
        _raised(partial(adapter.evaluate, weights), ShapeError)
        _raised(partial(adapter.export, weights, folder / "model.onnx"), ShapeError)
    _raised(partial(_train, adapter, good, plan(correction=good.vector[:-1])), ShapeError)


def one_class_and_one_row_work(bench: Bench, _: Path) -> None:
    """A site with rows of one class only, or with a single row, trains and scores like any other."""
    labels = bench.labels()
    for rows in (np.flatnonzero(labels == labels[0]), np.arange(1)):
        adapter = bench.open(rows, rows)
        weights = adapter.initial(0)
        trained = _train(adapter, weights, plan())
        assert trained.examples == len(rows), trained
        assert trained.delta.any(), "it learns"
        assert adapter.evaluate(weights)["classification.examples"] == len(rows), "it scores"


def no_rows_give_zeros(bench: Bench, _: Path) -> None:
    """A site without training rows answers a delta of zeros and no examples; without test rows, sums of zero."""
    nobody = np.arange(0)
    adapter = bench.open(nobody, nobody)
    weights = adapter.initial(0)
    trained = _train(adapter, weights, plan())
    assert (trained.examples, trained.steps, trained.loss_sum, trained.loss_examples) == (0, 0, 0.0, 0), trained
    assert not trained.delta.any(), "a delta of zeros"
    assert trained.delta.dtype == weights.vector.dtype, trained.delta.dtype
    expected = {name: value.shape for name, value in _all(bench).evaluate(weights).items()}
    sums = adapter.evaluate(weights)
    assert {name: value.shape for name, value in sums.items()} == expected, "the same sums as with rows"
    assert not any(value.any() for value in sums.values()), "sums of zero"


LAWS: tuple[Law, ...] = (
    same_seed_gives_the_same_bytes,
    training_does_not_change_its_arguments,
    no_learning_gives_a_delta_of_zeros,
    an_epoch_covers_each_example_once,
    training_lowers_the_loss,
    the_proximal_term_pulls_towards_the_start,
    the_correction_moves_a_step_by_rate_times_itself,
    clipping_bounds_a_step,
    sums_add_over_a_split_of_the_rows,
    export_answers_as_evaluate_scores,
    a_loss_that_is_not_finite_names_its_step,
    weights_of_another_model_are_refused,
    one_class_and_one_row_work,
    no_rows_give_zeros,
)
"""All of them; each takes a bench and an empty folder."""


def adapter_log_loss(adapter: Adapter, weights: Weights) -> float:
    """Return the mean log-loss of `weights` on the adapter's test rows."""
    sums: Sums = adapter.evaluate(weights)
    return float(sums["classification.log_loss"] / sums["classification.examples"])


def moved(weights: Weights, trained: Trained) -> Weights:
    """Return the weights after training."""
    return Weights(manifest=weights.manifest, vector=weights.vector + trained.delta)


def _all(bench: Bench) -> Adapter:
    rows = np.arange(len(bench.labels()))
    return bench.open(rows, rows)


def _train(adapter: Adapter, weights: Weights, what: LocalPlan) -> Trained:
    return adapter.train(weights, what, lambda _: None)


def _equal(one: Array, two: Array, what: str) -> None:
    assert one.dtype == two.dtype, f"{what}: {one.dtype} and {two.dtype}"
    assert one.tobytes() == two.tobytes(), f"{what} differ"


def _raised(call: Callable[[], Any], kind: type[TaskError]) -> TaskError:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} must be raised")
