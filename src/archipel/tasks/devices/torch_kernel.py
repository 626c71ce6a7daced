"""A kernel on one of PyTorch's devices. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from archipel.tasks.devices.kernels import Array, Kernel, compute

Tensors = dict[str, torch.Tensor]


class TorchKernel:
    """Callable on tensors that lie on its device; returns once the device is done."""

    def __init__(self, kernel: Kernel, place: str) -> None:
        self._what = kernel.what
        self._dtype = getattr(torch, kernel.dtype)
        self._device = torch.device(place)

    def place(self, inputs: Mapping[str, Array]) -> Tensors:
        """Bring inputs to the device, in the kernel's type."""
        return {name: torch.from_numpy(value.copy()).to(self._device, self._dtype) for name, value in inputs.items()}

    def __call__(self, given: Tensors) -> torch.Tensor:
        """Compute and wait."""
        with torch.no_grad():
            answer: torch.Tensor = compute(self._what, given)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return answer

    def fetch(self, answer: torch.Tensor, border: np.dtype[Any]) -> Array:
        """Bring an answer back."""
        return answer.to("cpu", getattr(torch, border.name)).numpy()
