"""The stacked executor: clients side by side, a step of all of them as one batched computation.

    rows of weights   (clients, elements): a row a client, its parameters are views of it
    a tick            the task's loss, mapped over the clients that have a batch of the same length left
                      (torch.func.vmap), one backward pass for all (slopes.py); then the rows take their steps

Clients know nothing of each other, so nothing makes them keep step: full batches are taken by all who have one left,
the clients with the most first, so that those still at work are a slice of the rows; short last batches are taken
together by those whose are equally long. No batch is padded and no loss is masked: any loss that `vmap` can map is
computed as `loop` computes it, but for the order of additions within the kernels.

Not for models with running statistics, nor for those that draw at random (dropout): theirs would be other draws than
the loop's. simulation/choosing.py tries every executor against the loop and refuses what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from archipel.spec import ShapeError, TaskError
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import LocalPlan, Rows, Samples, Trained, Weights, row_count
from archipel.tasks.torch.batches import Batches, move
from archipel.tasks.torch.client_rows import ClientRows, Room
from archipel.tasks.torch.flat_model import FlatModel
from archipel.tasks.torch.loss_module import PREFIX, LossModule
from archipel.tasks.torch.slopes import Slopes
from archipel.tasks.torch.task import Batch, TorchTask
from archipel.tasks.torch.threads import seeded

MOST_CLIENTS = 64
MOST_BYTES = 256 * 1024 * 1024
"""Of stacked weights; gradients take as much again."""


class Stacked:
    """Executor "stacked" of one task at one place."""

    name = "stacked"

    def __init__(self, task: TorchTask, model: FlatModel, batches: Batches, samples: Samples) -> None:
        if model.buffers:
            raise cannot_stack(f"it has running statistics ({model.buffers[0]!r})")
        self._task = task
        self._model = model
        self._samples = samples
        self._folder = task_folder(task)
        self._loss = LossModule(task, model.module)
        self._tensors = batches.tensors
        with user_code("parameter_groups", self._folder):
            self._groups = dict(task.parameter_groups(model.module))
        self._room = Room()

    def train(self, weights: Weights, plans: Sequence[LocalPlan]) -> Iterator[Trained]:
        """Yield what each plan comes to; one call has to be at its end before the next begins."""
        width = max(1, min(MOST_CLIENTS, MOST_BYTES // max(1, weights.vector.nbytes)))
        for first in range(0, len(plans), width):
            yield from self._side_by_side(weights, plans[first : first + width])

    def _side_by_side(self, weights: Weights, plans: Sequence[LocalPlan]) -> Iterator[Trained]:
        self._model.put(weights.vector)
        self._model.module.train()
        clients = ClientRows(self._model, self._groups, plans, row_count(self._samples), self._room)
        with seeded(plans[0].seed, self._model.device):
            for tick in clients.ticks():
                working = clients.working(tick)
                losses, slopes = self._differentiate(working, tick.rows)
                clients.learn(tick, losses, slopes, working)
        return clients.trained()

    def _differentiate(self, working: Tensor, rows: Rows) -> tuple[Tensor, Slopes]:
        """Return losses (clients,) and gradients by weights (clients, elements), of batches, rows (clients, batch)."""
        leaves = {name: view.detach().requires_grad_() for name, view in self._model.unstack(working).items()}
        views = {PREFIX + name: leaf for name, leaf in leaves.items()}
        slopes = Slopes(leaves)
        batch = self._batch(rows)
        with user_code("loss", self._folder):
            try:
                # Fused attention has no rule for clients side by side.
                with sdpa_kernel(SDPBackend.MATH), slopes.by_hand():
                    losses = vmap(self._loss.of, randomness="different")(views, batch)
            except (RuntimeError, NotImplementedError) as error:
                raise cannot_stack(error) from error
            if losses.ndim != 1:
                raise ShapeError("loss() does not return one number", hint="return the mean over the batch")
            slopes.differentiate(losses)
        return losses.detach(), slopes

    def _batch(self, rows: Rows) -> Batch:
        """Return the clients' batches, every tensor (clients, batch, …)."""
        if self._tensors is not None:
            flat = torch.from_numpy(rows.reshape(-1)).to(self._model.device)
            return {
                name: tensor.index_select(0, flat).view(*rows.shape, *tensor.shape[1:])
                for name, tensor in self._tensors.items()
            }
        with user_code("collate", self._folder):
            return side_by_side([move(self._task.collate(self._samples, one), self._model.device) for one in rows])


def side_by_side(batches: Sequence[Any]) -> Any:
    """Stack batches of one layout: tensors, and dicts, lists and tuples of them.

    Raises:
        TaskError: they are not of one layout.
    """
    first = batches[0]
    if isinstance(first, Tensor):
        if any(one.shape != first.shape for one in batches):
            raise cannot_stack("collate() gives batches of several shapes")
        return torch.stack(list(batches))
    if isinstance(first, dict):
        return {key: side_by_side([one[key] for one in batches]) for key in first}
    if isinstance(first, (list, tuple)):
        return type(first)(side_by_side(column) for column in zip(*batches, strict=True))
    raise cannot_stack(f"collate() gives a {type(first).__name__}")


def cannot_stack(reason: object) -> TaskError:
    """Say why the clients of this task cannot be computed side by side."""
    said = str(reason).strip().splitlines() or [type(reason).__name__]
    return TaskError(f"this model cannot be stacked: {said[0]}", hint='set executor = "loop" in [simulation]')
