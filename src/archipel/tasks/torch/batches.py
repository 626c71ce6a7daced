"""Batches: rows of samples as tensors on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import Rows, Samples, row_count
from archipel.tasks.torch.task import Batch, TorchTask, tensor_of


class Batches:
    """Batches of a training split. Where the task leaves `collate` as it is, arrays become tensors once for all."""

    def __init__(self, task: TorchTask, samples: Samples, device: torch.device) -> None:
        self._task = task
        self._samples = samples
        self._device = device
        self.tensors: dict[str, Tensor] | None = None
        """Of all rows, on the device; None: the task has a `collate` of its own."""
        if type(task).collate is TorchTask.collate:
            named = {name: tensor_of(name, samples[name]) for name in task.numeric(samples)}
            self.tensors = {name: tensor.to(device) for name, tensor in named.items()}

    def of(self, rows: Rows) -> Batch:
        """Return the batch of the given rows."""
        if self.tensors is None:
            return collate(self._task, self._samples, rows, self._device)
        chosen = torch.from_numpy(rows).to(self._device)
        return {name: tensor.index_select(0, chosen) for name, tensor in self.tensors.items()}


def collate(task: TorchTask, samples: Samples, rows: Rows, device: torch.device) -> Batch:
    """Return the task's batch of the given rows, on the device."""
    with user_code("collate", task_folder(task)):
        return move(task.collate(samples, rows), device)


def in_order(task: TorchTask, samples: Samples, device: torch.device) -> Iterator[Batch]:
    """Yield all rows in order, as many at a time as the task scores."""
    rows, size = row_count(samples), task.evaluation_rows
    for start in range(0, rows, size):
        yield collate(task, samples, np.arange(start, min(start + size, rows)), device)


def move(value: Any, device: torch.device) -> Any:
    """Return `value` with all tensors in it on the device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: move(item, device) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(move(item, device) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(move(item, device) for item in value)
    return value
