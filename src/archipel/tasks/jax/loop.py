"""The plain executor: one site after another, one batch after another, a step a call of one compiled function.

A step: gradient of the batch's mean loss, then what `xla.local_step` does with it. A batch comes into the function as
arrays of its own length, so the same batch gives the same bits whatever rows lie around it; a length that was not seen
before compiles the function once more.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from archipel.spec import LocalTraining, NonFiniteError, ShapeError, TaskError, require_finite
from archipel.tasks.examples import Teller, epoch_batches, rows_planned, step_count
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.jax.parameters import FlatParameters, as_key, step_keys
from archipel.tasks.jax.task import JaxTask
from archipel.tasks.port import LocalPlan, Progress, Samples, Trained, Vector
from archipel.tasks.xla.layout import Tree
from archipel.tasks.xla.local_step import LocalStep, Moments


class Loop:
    """Trains one task's parameters; compiled steps are kept."""

    def __init__(self, task: JaxTask, parameters: FlatParameters) -> None:
        self._task = task
        self._parameters = parameters
        self._folder = task_folder(task)
        self._steps: dict[tuple[LocalTraining, float], Step] = {}

    def run(self, start: Vector, samples: Samples, plan: LocalPlan, progress: Progress) -> Trained:
        """Train from `start` on `samples`, arrays of the task's precision."""
        layout, rows = self._parameters.layout, rows_planned(samples, plan)
        if not layout.shapes:
            raise TaskError("the model has no parameter to train", hint="let trainable() say yes to some")
        step = self._step(plan)
        # Cut by numpy: JAX would compile each cut.
        begin = jax.device_put(layout.tree(start))
        correction = None if plan.correction is None else jax.device_put(layout.tree(plan.correction))
        rates = layout.rates(plan.learning_rate)
        weights, moments = begin, step.local.moments(begin)
        steps = step_count(rows, plan)
        keys, teller = step_keys(plan.seed, steps), Teller(progress, steps)
        count, loss_sum, loss_examples = 0, 0.0, 0
        for epoch, chosen in epoch_batches(rows, plan):
            batch, key = {name: array[chosen] for name, array in samples.items()}, keys[count]
            count += 1
            with user_code("loss", self._folder):
                weights, moments, loss = step.take(weights, moments, begin, correction, batch, rates, key, count)
            value = _finite(float(loss), count)
            if epoch == plan.epochs - 1:
                loss_sum += value * len(chosen)
                loss_examples += len(chosen)
            teller.step(count)
        delta = self._parameters.vector(weights) - start
        require_finite("the update", delta)
        return Trained(delta=delta, examples=rows, steps=count, loss_sum=loss_sum, loss_examples=loss_examples)

    def _step(self, plan: LocalPlan) -> Step:
        key = (plan.local, plan.proximal)
        if key not in self._steps:
            self._steps[key] = Step(self._task, self._parameters, *key)
        return self._steps[key]


class Step:
    """The function of one way of local training, compiled for each length of a batch."""

    def __init__(self, task: JaxTask, parameters: FlatParameters, local: LocalTraining, proximal: float) -> None:
        self._task = task
        self._parameters = parameters
        self.local = LocalStep(local, proximal)
        self.take = jax.jit(self._take)

    def _take(  # noqa: PLR0917 - each is a different thing a step needs
        self,
        weights: Tree,
        moments: Moments,
        begin: Tree,
        correction: Tree | None,
        batch: Any,
        rates: Tree,
        key: Any,
        count: Any,
    ) -> tuple[Tree, Moments, Any]:
        """Return weights and moments after step number `count`, and the loss before it."""
        loss, slope = jax.value_and_grad(self._loss)(weights, batch, as_key(key))
        slope = self.local.shaped(slope, weights, begin, correction)
        return *self.local.moved(weights, moments, slope, rates, count), loss

    def _loss(self, weights: Tree, batch: Any, key: Any) -> Any:
        return one_number(self._task.loss(self._parameters.tree(weights), batch, key))


def one_number(loss: Any) -> Any:
    """Return the loss, where it is one number.

    Raises:
        ShapeError: it is not.
    """
    if jnp.shape(loss) != ():
        raise ShapeError(
            f"loss() returned an array of shape {jnp.shape(loss)}", hint="return one number: the mean over the batch"
        )
    return loss


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"the loss is {loss} at step {step}", hint="lower the learning rate, clip gradients or check the data"
        )
    return loss
