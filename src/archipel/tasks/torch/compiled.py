"""The compiled executor: a cohort's round as one XLA program (cohort_program.py), on the user's unchanged module.

The loss is lowered for one row (lowering.py) and mapped over a batch's; a short batch is padded with rows that do not
count. That is the task's loss where the loss of a batch is the mean of its rows' losses, which is tried on the first
rows and refused otherwise. Steps are counted at run time, so a client's size compiles nothing anew; only a client with
more than twice the steps of any before it does. Nor does a smaller cohort, which is filled up with clients of no steps.

Needs `archipel[jax]`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from archipel.spec import MissingExtraError, NonFiniteError
from archipel.tasks.examples import epoch_batches, rows_planned, step_count
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import LocalPlan, Samples, Trained, TrainedMean, Weights, row_count
from archipel.tasks.torch.batches import Batches
from archipel.tasks.torch.flat_model import FlatModel
from archipel.tasks.torch.task import TorchTask

# One thread: more cost CPU time on small models, and processes are how cores are used. XLA reads this as it starts.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise MissingExtraError(
        'the executor "compiled" needs JAX, which is not installed', hint="pip install 'archipel[jax]'"
    ) from error

from archipel.tasks.torch.cohort_program import Cohort, CohortProgram, Outcome, parameters_of
from archipel.tasks.torch.lowering import cannot_lower, lower_loss

jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call] # noqa: FBT003

MOST_CLIENTS = 64
"""In one call of the program."""
TRIED_ROWS = 7
AGREES = 1e-5
"""How far a batch's loss may be from the mean of its rows' losses, relative."""


class Compiled:
    """Executor "compiled" of one task at one place."""

    name = "compiled"

    def __init__(self, task: TorchTask, model: FlatModel, batches: Batches, samples: Samples) -> None:
        if batches.tensors is None:
            raise cannot_lower("the task has a collate() of its own")
        if model.buffers:
            raise cannot_lower(f"it has running statistics ({model.buffers[0]!r})")
        self._task = task
        self._model = model
        self._samples = samples
        with user_code("parameter_groups", task_folder(task)):
            self._parts = model.multipliers(dict(task.parameter_groups(model.module)))
        model.module.train()
        self._loss = lower_loss(task, model.module, task.collate(samples, np.arange(1)))
        self._data = {name: jnp.asarray(tensor.cpu().numpy()) for name, tensor in batches.tensors.items()}
        self._programs: dict[Any, CohortProgram] = {}
        self._most_steps = 1
        self._most_clients = 1
        self._require_mean()

    def train(self, weights: Weights, plans: Sequence[LocalPlan]) -> Iterator[Trained]:
        """Yield what each plan comes to."""
        for first in range(0, len(plans), MOST_CLIENTS):
            some = plans[first : first + MOST_CLIENTS]
            found = self._run(weights, some, [0.0] * len(some), keep=True)
            for plan, delta, loss in zip(some, np.asarray(found.deltas)[: len(some)], found.losses, strict=True):
                rows = rows_planned(self._samples, plan)
                steps = step_count(rows, plan)
                yield Trained(delta=delta, examples=rows, steps=steps, loss_sum=float(loss), loss_examples=rows)

    def train_mean(self, weights: Weights, plans: Sequence[LocalPlan], shares: Sequence[float]) -> TrainedMean:
        """Add the clients' deltas up within the program; no client's own leaves it."""
        delta = np.zeros_like(weights.vector)
        loss, rows, steps = 0.0, 0, 0
        for first in range(0, len(plans), MOST_CLIENTS):
            some = slice(first, first + MOST_CLIENTS)
            found = self._run(weights, plans[some], shares[some], keep=False)
            delta += np.asarray(found.deltas)
            loss += float(found.losses.sum())
            sizes = [rows_planned(self._samples, plan) for plan in plans[some]]
            rows += sum(sizes)
            steps += sum(step_count(size, plan) for size, plan in zip(sizes, plans[some], strict=True))
        return TrainedMean(delta=delta, steps=steps, loss_sum=loss, loss_examples=rows)

    def _run(self, weights: Weights, plans: Sequence[LocalPlan], shares: Sequence[float], *, keep: bool) -> Outcome:
        first = plans[0]
        key = (first.local, first.proximal, keep)
        if key not in self._programs:
            self._programs[key] = CohortProgram(
                self._loss, self._model.shapes, self._parts, first.local, first.proximal, keep=keep
            )
        cohort = self._laid_out(plans, shares, weights.vector.dtype)
        found = self._programs[key](self._data, weights.vector, cohort, first.learning_rate)
        finite, losses = np.asarray(found.finite)[: len(plans)], np.asarray(found.losses)[: len(plans)]
        for plan, whole, loss in zip(plans, finite, losses, strict=True):
            if not whole or not np.isfinite(loss):
                what = "the update is not finite" if np.isfinite(loss) else f"the loss is {loss}"
                hint = "lower the learning rate, clip gradients or check the data"
                raise NonFiniteError(f"{plan.client}: {what}", hint=hint)
        return Outcome(found.deltas, losses, finite)

    def _laid_out(self, plans: Sequence[LocalPlan], shares: Sequence[float], dtype: np.dtype[Any]) -> Cohort:
        sizes = [rows_planned(self._samples, plan) for plan in plans]
        steps = [step_count(size, plan) for size, plan in zip(sizes, plans, strict=True)]
        while self._most_steps < max(steps):
            self._most_steps *= 2
        self._most_clients = count = max(self._most_clients, len(plans))
        rows = np.zeros((count, self._most_steps, plans[0].local.batch_size), np.int32)
        real = np.zeros(rows.shape[:2], np.int32)
        told = np.zeros(rows.shape[:2], np.bool_)
        for at, (plan, size) in enumerate(zip(plans, sizes, strict=True)):
            for step, (epoch, chosen) in enumerate(epoch_batches(size, plan)):
                rows[at, step, : len(chosen)] = chosen
                real[at, step] = len(chosen)
                told[at, step] = epoch == plan.epochs - 1
        corrections = None
        if any(plan.correction is not None for plan in plans):
            corrections = np.zeros((count, sum(int(np.prod(shape)) for shape in self._model.shapes.values())), dtype)
            for at, plan in enumerate(plans):
                if plan.correction is not None:
                    corrections[at] = plan.correction
        filled = (0, count - len(plans))
        return Cohort(rows, real, told, np.pad(steps, filled), np.pad(shares, filled), corrections)

    def _require_mean(self) -> None:
        """Refuse a loss that is not the mean of its rows' losses."""
        rows = np.arange(min(TRIED_ROWS, row_count(self._samples)))
        with torch.no_grad(), user_code("loss", task_folder(self._task)):
            whole = float(self._task.loss(self._model.module, self._task.collate(self._samples, rows)))
        parameters = parameters_of(jnp.asarray(self._model.take()), self._model.shapes, self._loss.swapped)
        single = jax.vmap(lambda row: self._loss(parameters, row))(
            {name: array[rows][:, None] for name, array in self._data.items()}
        )
        if abs(whole - float(jnp.mean(single))) > AGREES * max(1.0, abs(whole)):
            raise cannot_lower("the loss of a batch is not the mean of its rows' losses")
