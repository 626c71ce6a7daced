"""The compiled executor of a TorchTask, and its training step for XLA's devices.

Both are made of the loss of the unchanged module, lowered (lowering.py) for tasks/xla.

Needs `archipel[jax]`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from archipel.spec import LocalTraining
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import Samples, row_count
from archipel.tasks.rates import multipliers_of
from archipel.tasks.torch.batches import Batches
from archipel.tasks.torch.flat_model import FlatModel
from archipel.tasks.torch.lowering import DRAW, lower_loss
from archipel.tasks.torch.task import TorchTask
from archipel.tasks.xla.backend import computing, settle_xla
from archipel.tasks.xla.compiled import Compiled, cannot_compile, tried_rows
from archipel.tasks.xla.layout import Layout
from archipel.tasks.xla.training_step import TrainingStep


def compile_cohorts(task: TorchTask, model: FlatModel, batches: Batches, samples: Samples) -> Compiled:
    """Return the executor for the task over `samples`, of which `batches` are made.

    Raises:
        TaskError: the loss cannot be lowered, or is not a mean over rows; says why.
    """
    model.module.train()
    return _checked(task, model, batches, samples)


def step_of(
    task: TorchTask, model: FlatModel, batches: Batches, samples: Samples, local: LocalTraining
) -> TrainingStep:
    """Return one step of the task's training, dropout and all.

    Raises:
        TaskError: as compile_cohorts does, but for dropout.
    """
    model.module.eval()  # without dropout, the mean over rows can be held against torch's
    layout, arrays = _checked(task, model, batches, samples).cut
    model.module.train()
    with computing(double=True):
        loss = lower_loss(task, model.module, task.collate(samples, tried_rows(samples)[:1]), draws=True)
    layout = replace(layout, swapped=loss.swapped)
    if loss.draws:
        arrays = {**arrays, DRAW: np.arange(row_count(samples), dtype=np.uint32)}
    return TrainingStep(loss, layout, arrays, local, double=True)


def _checked(task: TorchTask, model: FlatModel, batches: Batches, samples: Samples) -> Compiled:
    if batches.tensors is None:
        raise cannot_compile("the task has a collate() of its own")
    if model.buffers:
        raise cannot_compile(f"it has running statistics ({model.buffers[0]!r})")
    settle_xla()
    with user_code("parameter_groups", task_folder(task)):
        multipliers = multipliers_of(model.shapes, dict(task.parameter_groups(model.module)))
    # Class numbers are 64 bits wide to torch, whatever the weights are.
    with computing(double=True):
        loss = lower_loss(task, model.module, task.collate(samples, tried_rows(samples)[:1]))
    layout = Layout(model.shapes, multipliers, loss.swapped)
    arrays = {name: tensor.cpu().numpy() for name, tensor in batches.tensors.items()}
    executor = Compiled(loss, layout, arrays, double=True)
    with torch.no_grad(), user_code("loss", task_folder(task)):
        whole = float(task.loss(model.module, task.collate(samples, tried_rows(samples))))
    executor.require_mean(model.take(), whole)
    return executor
