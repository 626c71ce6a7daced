"""Images with their channels last in memory, where the model takes them: convolutions and pools on a CPU are faster.

    with channels_last(module):
        loss(module, batch)             # the same shapes and, but for rounding, values

Each convolution gets its images in that layout, and torch hands it on to what follows. A model can ask for the other
layout, by `view`; so it is tried once, and what fails or answers something else keeps the layout that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from archipel.tasks.torch.batches import Batches
from archipel.tasks.torch.flat_model import FlatModel
from archipel.tasks.torch.task import Batch, TorchTask
from archipel.tasks.torch.threads import seeded

IMAGE_AXES = 4
AGREES = 1e-4
"""How far the loss may be from the one by the other layout, relative."""


@contextmanager
def channels_last(module: nn.Module) -> Iterator[None]:
    """Give the convolutions inside of `module` their images with channels last, for the length of a block."""
    hooks = [layer.register_forward_pre_hook(_laid_out) for layer in _convolutions(module)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def convolves(model: FlatModel) -> bool:
    """Has the model convolutions over images, to be computed by a CPU?"""
    return model.device.type == "cpu" and bool(_convolutions(model.module))


def takes_channels_last(task: TorchTask, model: FlatModel, batches: Batches) -> bool:
    """Try the loss of the first row in both layouts, in evaluation mode; `model` holds its first weights."""
    model.module.eval()
    with torch.no_grad():
        try:
            batch = batches.of(np.arange(1))
            plain = _loss(task, model, batch)
            with channels_last(model.module):
                last = _loss(task, model, batch)
        except Exception:  # noqa: BLE001 (the user's code: a loss that fails is told where it trains)
            return False
    return abs(plain - last) <= AGREES * max(1.0, abs(plain))


def _convolutions(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _loss(task: TorchTask, model: FlatModel, batch: Batch) -> float:
    with seeded(0, model.device):
        return float(task.loss(model.module, batch))


def _laid_out(_layer: nn.Module, given: tuple[Any, ...]) -> Any:
    images, *others = given
    if not isinstance(images, Tensor) or images.ndim != IMAGE_AXES:
        return None
    if images.shape[1] == 1:
        # Both layouts of one channel have the same bytes; only a copy gets the strides that tell them apart.
        return (images.clone(memory_format=torch.channels_last), *others)
    return (images.contiguous(memory_format=torch.channels_last), *others)
