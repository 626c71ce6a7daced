"""The plain executor: one site after another, one batch after another, on one flat tensor.

A step: gradient of the batch's mean loss, then what `local_step` does with it. Buffers (running means) move with the
forward pass and are touched by none of these.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from archipel.spec import NonFiniteError, ShapeError, TaskError, require_finite
from archipel.tasks.examples import Teller, epoch_batches, rows_planned, step_count
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import LocalPlan, Progress, Samples, Trained, Vector
from archipel.tasks.torch.batches import Batches
from archipel.tasks.torch.channels_last import channels_last
from archipel.tasks.torch.flat_model import FlatModel
from archipel.tasks.torch.local_step import LocalStep, is_plain
from archipel.tasks.torch.task import Batch, TorchTask
from archipel.tasks.torch.threads import seeded


class Loop:
    """One call of `train`."""

    def __init__(
        self,
        task: TorchTask,
        model: FlatModel,
        batches: Batches,
        plan: LocalPlan,
        brief: torch.dtype | None = None,
        *,
        images_last: bool = False,
    ) -> None:
        """`brief` is what products of the loss are computed in; None: as the weights are.

        `images_last` asks for images in the layout of channels_last.py.
        """
        self._task = task
        self._model = model
        self._batches = batches
        self._plan = plan
        self._images_last = images_last
        self._folder = task_folder(task)
        self._weights = model.vector[: model.trained]
        self._products = torch.autocast(model.device.type, dtype=brief, enabled=brief is not None)

    def run(self, start: Vector, samples: Samples, progress: Progress) -> Trained:
        """Train from `start` on `samples`."""
        rows, plan = rows_planned(samples, self._plan), self._plan
        if not self._model.trained:
            raise TaskError("the model has no parameter to train", hint="let trainable() say yes to some")
        self._model.put(start)
        with user_code("parameter_groups", self._folder):
            groups = dict(self._task.parameter_groups(self._model.module))
        rates = self._model.rates(plan.learning_rate, groups)
        local = None if is_plain(plan) else LocalStep(plan, self._weights.detach(), self._model.multipliers(groups))
        teller = Teller(progress, step_count(rows, plan))
        step, loss_sum, loss_examples = 0, 0.0, 0
        self._model.module.train()
        layout = channels_last(self._model.module) if self._images_last else nullcontext()
        with seeded(plan.seed, self._model.device), layout:
            for epoch, chosen in epoch_batches(rows, plan):
                step += 1
                loss, slopes = self._differentiate(self._batches.of(chosen), step)
                if epoch == plan.epochs - 1:
                    loss_sum += loss * len(chosen)
                    loss_examples += len(chosen)
                if local is None:
                    self._model.descend(slopes, rates)
                else:
                    local.step(self._model.gradient(slopes))
                if step == 1:
                    self._model.require_bound()
                teller.step(step)
        if step:
            self._model.require_bound()
        delta = self._model.since(start)
        require_finite("the update", delta)
        return Trained(delta=delta, examples=rows, steps=step, loss_sum=loss_sum, loss_examples=loss_examples)

    def _differentiate(self, batch: Batch, step: int) -> tuple[float, list[Tensor | None]]:
        """Return the batch's loss and its gradient by each parameter."""
        with user_code("loss", self._folder):
            with self._products:
                loss: Any = self._task.loss(self._model.module, batch)
            if not isinstance(loss, Tensor) or loss.ndim != 0:
                what = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
                raise ShapeError(f"loss() returned {what}", hint="return one number: the mean over the batch")
            value = float(loss.detach())
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"the loss is {value} at step {step}",
                    hint="lower the learning rate, clip gradients or check the data",
                )
            return value, self._model.slopes(loss)
