"""The published laws find adapters that break them: each breaks one thing, and the law of that name says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from tasks_benches import STATISTICS, Clouds, NumpyBench, a_job, site_data

from archipel.tasks import conformance
from archipel.tasks.numpy.adapter import NumpyAdapter
from archipel.tasks.port import Weights

SURPRISE = np.random.default_rng()


def without(**fields) -> Callable:
    """Train as if the plan said something else."""

    def train(self, weights, plan, progress):
        return NumpyAdapter.train(self, weights, msgspec.structs.replace(plan, **fields), progress)

    return train


def unclipped(self, weights, plan, progress):
    local = msgspec.structs.replace(plan.local, clip_norm=None)
    return NumpyAdapter.train(self, weights, msgspec.structs.replace(plan, local=local), progress)


def unseeded(self, weights, plan, progress):
    plan = msgspec.structs.replace(plan, seed=(int(SURPRISE.integers(1 << 30)),))
    return NumpyAdapter.train(self, weights, plan, progress)


def in_place(self, weights, plan, progress):
    result = NumpyAdapter.train(self, weights, plan, progress)
    weights.vector.flags.writeable = True
    weights.vector[:] += result.delta
    return result


def restless(self, weights, plan, progress):
    result = NumpyAdapter.train(self, weights, plan, progress)
    return msgspec.structs.replace(result, delta=result.delta + np.float32(1e-9))


def forgetful(self, weights, plan, progress):
    result = NumpyAdapter.train(self, weights, plan, progress)
    return msgspec.structs.replace(result, loss_examples=result.loss_examples - result.loss_examples % 8)


def backwards(self, weights, plan, progress):
    result = NumpyAdapter.train(self, weights, plan, progress)
    return msgspec.structs.replace(result, delta=-result.delta)


def trusting(self, weights, plan, progress):
    return NumpyAdapter.train(self, Weights(manifest=self._manifest, vector=weights.vector), plan, progress)


def averaging(self, weights, part="test"):
    sums = NumpyAdapter.evaluate(self, weights, part)
    return {name: value / max(float(sums["classification.examples"]), 1.0) for name, value in sums.items()}


def from_zero(self, weights, target):
    NumpyAdapter.export(self, msgspec.structs.replace(weights, vector=weights.vector * 0), target)


def silent(self, weights, plan, progress):
    try:
        return NumpyAdapter.train(self, weights, plan, progress)
    except Exception:  # noqa: BLE001
        return NumpyAdapter.train(self, weights, msgspec.structs.replace(plan, epochs=0), progress)


def needs_rows(self, weights, part="test"):
    sums = NumpyAdapter.evaluate(self, weights, part)
    return sums if sums["classification.examples"] else {}


def needs_classes(self, weights, plan, progress):
    result = NumpyAdapter.train(self, weights, plan, progress)
    return result if result.examples > 1 else msgspec.structs.replace(result, delta=result.delta * 0)


@dataclass
class Broken:
    law: str
    methods: dict


BROKEN = [
    Broken("same_seed_gives_the_same_bytes", {"train": unseeded}),
    Broken("same_seed_gives_the_same_bytes", {"train": without(seed=(1,))}),
    Broken("training_does_not_change_its_arguments", {"train": in_place}),
    Broken("no_learning_gives_a_delta_of_zeros", {"train": restless}),
    Broken("an_epoch_covers_each_example_once", {"train": without(epochs=1)}),
    Broken("an_epoch_covers_each_example_once", {"train": forgetful}),
    Broken("training_lowers_the_loss", {"train": backwards}),
    Broken("the_proximal_term_pulls_towards_the_start", {"train": without(proximal=0.0)}),
    Broken("the_correction_moves_a_step_by_rate_times_itself", {"train": without(correction=None)}),
    Broken("clipping_bounds_a_step", {"train": unclipped}),
    Broken("sums_add_over_a_split_of_the_rows", {"evaluate": averaging}),
    Broken("export_answers_as_evaluate_scores", {"export": from_zero}),
    Broken("a_loss_that_is_not_finite_names_its_step", {"train": silent}),
    Broken("weights_of_another_model_are_refused", {"train": trusting}),
    Broken("one_class_and_one_row_work", {"train": needs_classes}),
    Broken("no_rows_give_zeros", {"evaluate": needs_rows}),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.law)
def test_the_law_finds_the_adapter_that_breaks_it(broken, tmp_path):
    adapter = type("BrokenAdapter", (NumpyAdapter,), broken.methods)

    class Bench(NumpyBench):
        def open(self, train, test):
            return adapter(a_job(), Clouds(train, test), site_data(), STATISTICS)

    with pytest.raises(AssertionError):
        getattr(conformance, broken.law)(Bench(), tmp_path)


def test_every_law_is_broken_by_some_adapter():
    assert {broken.law for broken in BROKEN} == {law.__name__ for law in conformance.LAWS}
