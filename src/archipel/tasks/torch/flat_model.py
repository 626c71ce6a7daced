"""FlatModel: an nn.Module whose weights are views into one flat tensor, so that nothing is copied a step.

    vector    [ trainable parameters, in the module's order | floating-point buffers of its state ]
    slopes    gradients of a loss by the same parameters, one tensor each
    gradient  [ the same parameters ]            the slopes in one tensor, for steps that need all of them at once

What takes no part stays outside: frozen parameters, integer buffers, buffers that are not saved. They are local, and
are put back as the task made them before each use, so that a result does not depend on what ran before it.
"""

from __future__ import annotations

from collections.abc import Sequence
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
            self._leaves = tuple(self._parameters.values())
            self._buffers = self._choose_buffers(task)
        moving = {**self._parameters, **self._buffers}
        every = [tensor for tensor in moving.values() if tensor.dtype != torch.float64]
        dtype = torch.float32 if every or not moving else torch.float64
        kind = np.dtype(np.float32 if dtype == torch.float32 else np.float64)
        self.manifest: Manifest = manifest_of((name, tuple(tensor.shape), kind) for name, tensor in moving.items())
        self.trained = sum(tensor.numel() for tensor in self._parameters.values())
        """How many of the vector's elements are parameters; they come first."""
        self.vector = torch.empty(sum(tensor.numel() for tensor in moving.values()), dtype=dtype, device=device)
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

    def since(self, start: Array) -> Array:
        """Return how far the weights are from `start`."""
        self._collect()
        moved: Array = self.vector.detach().cpu().numpy() - start
        return moved

    def unstack(self, rows: Tensor) -> dict[str, Tensor]:
        """Return views (clients, *shape) of weights laid out as `vector`, a client a row: parameters, then buffers."""
        views: dict[str, Tensor] = {}
        place = 0
        for name, view in self._views.items():
            end = place + view.numel()
            views[name] = rows[:, place:end].view(len(rows), *view.shape)
            place = end
        return views

    def slopes(self, loss: Tensor) -> list[Tensor | None]:
        """Return the loss's gradient by each parameter; None: the loss does not depend on it."""
        return [
            slope.to_dense() if slope is not None and slope.is_sparse else slope
            for slope in torch.autograd.grad(loss, self._leaves, allow_unused=True)
        ]

    def descend(self, slopes: Sequence[Tensor | None], rates: Sequence[float]) -> None:
        """Take a plain step: each parameter against its gradient, without a pass over memory between them."""
        with torch.no_grad():
            for leaf, slope, rate in zip(self._leaves, slopes, rates, strict=True):
                if slope is not None:
                    leaf.add_(slope, alpha=-rate)

    def gradient(self, slopes: Sequence[Tensor | None]) -> Tensor:
        """Return the slopes laid end to end, zeros for what the loss does not depend on."""
        pairs = zip(slopes, self._leaves, strict=True)
        parts = [torch.zeros_like(leaf) if slope is None else slope for slope, leaf in pairs]
        return torch.cat([part.detach().reshape(-1).to(self.vector.dtype) for part in parts])

    def rates(self, learning_rate: float, prefixes: dict[str, float]) -> list[float]:
        """Return each parameter's learning rate; the longest prefix of a name wins."""
        return [learning_rate * factor for factor in multipliers_of(self._parameters, prefixes).values()]

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
