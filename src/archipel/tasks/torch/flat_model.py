"""FlatModel: an nn.Module whose weights are views into one flat tensor, so that nothing is copied a step.

    vector    [ trainable parameters, in the module's order | floating-point buffers of its state ]
    gradient  [ the same parameters ]            filled from a loss by `differentiate`, in one pass

What takes no part stays outside: frozen parameters, integer buffers, buffers that are not saved. They are local, and
are put back as the task made them before each use, so that a result does not depend on what ran before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from archipel.spec import Manifest, ShapeError, TaskError, manifest_of
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import Sums
from archipel.tasks.rates import multipliers_of
from archipel.tasks.torch.task import TorchTask
from archipel.tasks.torch.threads import seeded

Array = npt.NDArray[Any]


class FlatModel:
    """A task's model for one device, made from a seed."""

    def __init__(self, task: TorchTask, statistics: Sums, seed: int, device: torch.device) -> None:
        self.device = device
        with user_code("model", task_folder(task)), seeded(seed, device):
            made: Any = task.model(dict(statistics))
            if not isinstance(made, nn.Module):
                raise ShapeError(f"model() returned {type(made).__name__}", hint="return a torch.nn.Module")
            self.module = made.to(device)
            self._parameters = self._choose_parameters(task)
            self._buffers = self._choose_buffers(task)
        moving = {**self._parameters, **self._buffers}
        every = [tensor for tensor in moving.values() if tensor.dtype != torch.float64]
        dtype = torch.float32 if every or not moving else torch.float64
        kind = np.dtype(np.float32 if dtype == torch.float32 else np.float64)
        self.manifest: Manifest = manifest_of((name, tuple(tensor.shape), kind) for name, tensor in moving.items())
        self.trained = sum(tensor.numel() for tensor in self._parameters.values())
        """How many of the vector's elements are parameters; they come first."""
        self.vector = torch.empty(sum(tensor.numel() for tensor in moving.values()), dtype=dtype, device=device)
        self.gradient = torch.zeros(self.trained, dtype=dtype, device=device)
        self._bind()
        self._local = {
            name: buffer.clone() for name, buffer in self.module.named_buffers() if name not in self._buffers
        }

    @property
    def buffers(self) -> tuple[str, ...]:
        """Names of the buffers in the vector."""
        return tuple(self._buffers)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of what is in the vector, in order."""
        return {name: tuple(view.shape) for name, view in self._views.items()}

    @property
    def largest(self) -> int:
        """Elements of the largest matrix; what is used once a row multiplies so often a row."""
        return max((view.numel() for view in self._views.values() if view.ndim > 1), default=0)

    def put(self, vector: Array) -> None:
        """Set the weights, and everything local as the task made it."""
        with torch.no_grad():
            # torch.from_numpy warns about an array that is read-only.
            self.vector.copy_(torch.from_numpy(vector if vector.flags.writeable else np.array(vector)))
            for name, value in self._local.items():
                self.module.get_buffer(name).copy_(value)

    def take(self) -> Array:
        """Return a copy of the weights."""
        self._collect()
        return np.array(self.vector.detach().cpu().numpy())

    def unstack(self, rows: Tensor) -> dict[str, Tensor]:
        """Return views (clients, *shape) of weights laid out as `vector`, a client a row: parameters, then buffers."""
        views: dict[str, Tensor] = {}
        place = 0
        for name, view in self._views.items():
            end = place + view.numel()
            views[name] = rows[:, place:end].view(len(rows), *view.shape)
            place = end
        return views

    def differentiate(self, loss: Tensor) -> None:
        """Put the loss's gradient into `gradient`; a parameter the loss does not depend on gets zeros."""
        leaves = tuple(self._parameters.values())
        slopes = torch.autograd.grad(loss, leaves, allow_unused=True)
        parts = [_dense(slope, leaf).reshape(-1) for slope, leaf in zip(slopes, leaves, strict=True)]
        torch.cat([part.to(self.gradient.dtype) for part in parts], out=self.gradient)

    def multipliers(self, prefixes: dict[str, float]) -> list[tuple[slice, float]]:
        """Return runs of neighbouring parameters with the same multiplier; the longest prefix of a name wins."""
        by_name = multipliers_of(self._parameters, prefixes)
        runs: list[tuple[slice, float]] = []
        place = 0
        for name, tensor in self._parameters.items():
            multiplier, start = by_name[name], place
            if runs and runs[-1][1] == multiplier:
                start = runs.pop()[0].start
            place += tensor.numel()
            runs.append((slice(start, place), multiplier))
        return runs

    def require_bound(self) -> None:
        """Raise a TaskError where the user's code has put other tensors in the place of the views."""
        for name, parameter in self._parameters.items():
            if parameter.data_ptr() != self._views[name].data_ptr():
                raise TaskError(f"parameter {name!r} was replaced in training", hint="change parameters in place")

    def _choose_parameters(self, task: TorchTask) -> dict[str, Tensor]:
        chosen: dict[str, Tensor] = {}
        for name, parameter in self.module.named_parameters():
            if isinstance(parameter, UninitializedParameter):
                raise ShapeError(f"parameter {name!r} has no shape yet", hint="use no lazy modules; give the widths")
            if not parameter.requires_grad or not task.trainable(name):
                parameter.requires_grad = False
            elif not parameter.dtype.is_floating_point:
                raise ShapeError(f"parameter {name!r} is {parameter.dtype}", hint="use floating-point parameters")
            else:
                chosen[name] = parameter
        return chosen

    def _choose_buffers(self, task: TorchTask) -> dict[str, Tensor]:
        saved = self.module.state_dict(keep_vars=True)
        return {
            name: buffer
            for name, buffer in self.module.named_buffers()
            if name in saved and buffer.dtype.is_floating_point and task.trainable(name)
        }

    def _bind(self) -> None:
        """Move parameters and buffers into the flat tensor."""
        self._views: dict[str, Tensor] = {}
        place = 0
        for name, tensor in {**self._parameters, **self._buffers}.items():
            end = place + tensor.numel()
            view = self.vector[place:end].view(tensor.shape)
            view.copy_(tensor.detach())
            tensor.data = view
            self._views[name] = view
            place = end

    def _collect(self) -> None:
        """Bring back buffers that a module has assigned anew instead of changing them in place."""
        for name in self._buffers:
            current = self.module.get_buffer(name)
            if current.data_ptr() != self._views[name].data_ptr():
                self._views[name].copy_(current.detach())
                current.data = self._views[name]


def _dense(slope: Tensor | None, leaf: Tensor) -> Tensor:
    if slope is None:
        return torch.zeros_like(leaf)
    return slope.to_dense() if slope.is_sparse else slope
