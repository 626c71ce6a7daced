"""The compiled executor: a cohort's round as one XLA program (cohort_program.py), for whoever gives a loss.

The loss is that of a batch of one row, mapped over a batch's rows; a short batch is padded with rows that do not count.
That is the task's loss where the loss of a batch is the mean of its rows' losses, which is tried on the first rows and
refused otherwise. Steps are counted at run time, so a client's size compiles nothing anew; only a client with more than
twice the steps of any before it does. Nor does a smaller cohort, which is filled up with clients of no steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from archipel.spec import LocalTraining, NonFiniteError, TaskError
from archipel.tasks.examples import epoch_batches, rows_planned, step_count
from archipel.tasks.port import LocalPlan, Rows, Samples, Trained, TrainedMean, Vector, Weights, row_count
from archipel.tasks.xla.backend import computing
from archipel.tasks.xla.cohort_program import Cohort, CohortProgram, Outcome, RowLoss
from archipel.tasks.xla.layout import Layout
from archipel.tasks.xla.training_step import TrainingStep

MOST_CLIENTS = 64
"""In one call of the program."""
TRIED_ROWS = 7
AGREES = 1e-5
"""How far a batch's loss may be from the mean of its rows' losses, relative."""


class Compiled:
    """Executor "compiled" of one task at one place."""

    name = "compiled"

    def __init__(
        self,
        loss: RowLoss,
        layout: Layout,
        samples: Samples,
        *,
        double: bool,
        device: jax.Device | None = None,
    ) -> None:
        """`samples` are what a batch is made of; `double` lets the program compute with 64-bit types."""
        self._loss = loss
        self._layout = layout
        self._samples = samples
        self._double = double
        self._device = device
        with computing(double=double, device=device):
            self._data = {name: jnp.asarray(array) for name, array in samples.items()}
        self._programs: dict[Any, CohortProgram] = {}
        self._most_steps = 1
        self._most_clients = 1

    def require_mean(self, start: Vector, whole: float) -> None:
        """Refuse a loss whose value `whole` for the first rows, from `start`, is not the mean of those rows' losses.

        Raises:
            TaskError: it is not.
        """
        rows = tried_rows(self._samples)
        with computing(double=self._double, device=self._device):
            parameters = self._layout.tree(jnp.asarray(start))
            taken: Mapping[str, Any] = {name: array[rows][:, None] for name, array in self._data.items()}
            single = float(jnp.mean(jax.vmap(lambda row: self._loss(parameters, row))(taken)))
        if abs(whole - single) > AGREES * max(1.0, abs(whole)):
            raise cannot_compile("the loss of a batch is not the mean of its rows' losses")

    @property
    def cut(self) -> tuple[Layout, Samples]:
        """How its vector is cut, and what its batches are made of."""
        return self._layout, self._samples

    def training_step(self, local: LocalTraining) -> TrainingStep:
        """Return one step of this task's training, to be compiled for other devices."""
        return TrainingStep(self._loss, self._layout, self._samples, local, self._double)

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
            delta += self._layout.flat(found.deltas)
            loss += float(found.losses.sum())
            sizes = [rows_planned(self._samples, plan) for plan in plans[some]]
            rows += sum(sizes)
            steps += sum(step_count(size, plan) for size, plan in zip(sizes, plans[some], strict=True))
        return TrainedMean(delta=delta, steps=steps, loss_sum=loss, loss_examples=rows)

    def _run(self, weights: Weights, plans: Sequence[LocalPlan], shares: Sequence[float], *, keep: bool) -> Outcome:
        first = plans[0]
        key = (first.local, first.proximal, keep)
        if key not in self._programs:
            self._programs[key] = CohortProgram(self._loss, self._layout, first.local, first.proximal, keep=keep)
        cohort = self._laid_out(plans, shares, weights.vector.dtype)
        with computing(double=self._double, device=self._device):
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
            corrections = np.zeros((count, self._layout.elements), dtype)
            for at, plan in enumerate(plans):
                if plan.correction is not None:
                    corrections[at] = plan.correction
        filled = (0, count - len(plans))
        return Cohort(rows, real, told, np.pad(steps, filled), np.pad(shares, filled), corrections)


def tried_rows(samples: Samples) -> Rows:
    """Return the rows on which a loss is tried."""
    return np.arange(min(TRIED_ROWS, row_count(samples)))


def cannot_compile(reason: str) -> TaskError:
    """Say why a task's loss cannot be compiled."""
    return TaskError(f"this model cannot be compiled: {reason}", hint='set executor = "loop" in [simulation]')
