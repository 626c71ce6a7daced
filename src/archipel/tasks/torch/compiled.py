"""The compiled executor of a TorchTask: the loss of the unchanged module, lowered (lowering.py) for tasks/xla.

Needs `archipel[jax]`.
"""

from __future__ import annotations

import torch

from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import Samples
from archipel.tasks.rates import multipliers_of
from archipel.tasks.torch.batches import Batches
from archipel.tasks.torch.flat_model import FlatModel
from archipel.tasks.torch.lowering import lower_loss
from archipel.tasks.torch.task import TorchTask
from archipel.tasks.xla.backend import computing, settle_xla
from archipel.tasks.xla.compiled import Compiled, cannot_compile, tried_rows
from archipel.tasks.xla.layout import Layout


def compile_cohorts(task: TorchTask, model: FlatModel, batches: Batches, samples: Samples) -> Compiled:
    """Return the executor for the task over `samples`, of which `batches` are made.

    Raises:
        TaskError: the loss cannot be lowered, or is not a mean over rows; says why.
    """
    if batches.tensors is None:
        raise cannot_compile("the task has a collate() of its own")
    if model.buffers:
        raise cannot_compile(f"it has running statistics ({model.buffers[0]!r})")
    settle_xla()
    with user_code("parameter_groups", task_folder(task)):
        multipliers = multipliers_of(model.shapes, dict(task.parameter_groups(model.module)))
    model.module.train()
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
