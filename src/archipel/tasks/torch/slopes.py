"""Gradients of clients side by side. Those of a linear layer's matrix stay factors, which are never multiplied out.

    slopes = Slopes(views)                       # the weights, name → (clients, *shape)
    with slopes.by_hand():
        losses = vmap(…)(views, batch)           # each nn.Linear is one product of (clients, rows, inputs)
    slopes.differentiate(losses)
    slopes.descend(rates)                        # weights -= rate * gradient; matrix -= rate * outgoingᵀ incoming
    slopes.write(gradient)                       # or all of it, (clients, parameters), for steps that need more

Left to itself `vmap` gives the gradient of a matrix transposed, to be copied, and a step then reads it again: three
passes over memory where the product that takes the step makes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from archipel.tasks.torch.cross_entropy import cross_entropy, is_plain


class Factors(NamedTuple):
    """The gradient outgoingᵀ incoming of a matrix (clients, outputs, inputs)."""

    name: str
    outgoing: Tensor
    """(clients, rows, outputs): of the losses by what the layer gives."""
    incoming: Tensor
    """(clients, rows, inputs): what the layer took."""


class Slopes:
    """The gradient of one batch of each client."""

    def __init__(self, leaves: Mapping[str, Tensor]) -> None:
        """`leaves` are the trained weights, name → (clients, *shape), and ask for gradients."""
        self._leaves = dict(leaves)
        self._names = {leaf.data_ptr(): name for name, leaf in leaves.items()}
        self._factors: list[Factors] = []
        self._whole: dict[str, Tensor] = {}

    @contextmanager
    def by_hand(self) -> Iterator[None]:
        """Compute in the block what `vmap` computes badly: linear layers, whose gradients stay factors, and losses."""
        with _ByHand(self):
            yield

    def differentiate(self, losses: Tensor) -> None:
        """Take the gradient of losses (clients,), each by its own client's weights."""
        found = torch.autograd.grad(losses.sum(), list(self._leaves.values()), allow_unused=True)
        self._whole = {name: slope for name, slope in zip(self._leaves, found, strict=True) if slope is not None}

    def keep(self, matrix: Tensor, outgoing: Tensor, incoming: Tensor) -> bool:
        """Keep factors; False where the matrix is none of the weights, but computed from them."""
        name = self._names.get(matrix.data_ptr())
        if name is None or matrix.stride() != self._leaves[name].stride():
            return False
        self._factors.append(Factors(name, outgoing.detach(), incoming.detach()))
        return True

    def descend(self, rates: Mapping[str, float]) -> None:
        """Move the weights against the gradient, in place."""
        weights = {name: leaf.detach() for name, leaf in self._leaves.items()}
        for name, slope in self._whole.items():
            weights[name].sub_(slope, alpha=rates[name])
        for name, outgoing, incoming in self._factors:
            weights[name].baddbmm_(outgoing.mT, incoming, alpha=-rates[name])

    def write(self, gradient: Mapping[str, Tensor]) -> None:
        """Write the gradient into name → (clients, *shape)."""
        for name, place in gradient.items():
            slope = self._whole.get(name)
            place.zero_() if slope is None else place.copy_(slope)
        for name, outgoing, incoming in self._factors:
            gradient[name].baddbmm_(outgoing.mT, incoming)


class _ByHand(TorchFunctionMode):
    """Takes functional.linear and functional.cross_entropy over."""

    def __init__(self, slopes: Slopes) -> None:
        super().__init__()
        self._slopes = slopes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.linear:
            return self._linear(*args, **(kwargs or {}))
        if func is functional.cross_entropy and is_plain(*args, **(kwargs or {})):
            return cross_entropy(*args)
        return func(*args, **(kwargs or {}))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:  # noqa: A002 (torch's name)
        return _Linear.apply(self._slopes, input, weight, bias)  # type: ignore[no-untyped-call]


class _Linear(torch.autograd.Function):
    """A linear layer of one client, as it is seen inside of vmap: all clients' become one product."""

    @staticmethod
    def forward(_slopes: Slopes, x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        """Nothing here is a client's own, nor trained."""
        return functional.linear(x, matrix, bias)

    @staticmethod
    def setup_context(_ctx: Any, _inputs: Any, _output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(info: Any, axes: Any, slopes: Slopes, *given: Tensor | None) -> tuple[Tensor, int]:
        """Compute (clients, …, outputs)."""
        count = info.batch_size
        x, matrix, bias = (_clients_first(value, at, count) for value, at in zip(given, axes[1:], strict=True))
        assert x is not None
        assert matrix is not None
        found: Tensor = _Product.apply(slopes, x.reshape(count, -1, x.shape[-1]), matrix, bias)  # type: ignore[no-untyped-call]
        return found.view(*x.shape[:-1], found.shape[-1]), 0


class _Product(torch.autograd.Function):
    """x matrixᵀ + bias for (clients, rows, inputs), (clients, outputs, inputs), (clients, outputs)."""

    @staticmethod
    def forward(ctx: Any, slopes: Slopes, x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        """Compute (clients, rows, outputs)."""
        ctx.slopes = slopes
        ctx.save_for_backward(x, matrix)
        if bias is None:
            return torch.bmm(x, matrix.mT)
        return torch.baddbmm(bias.unsqueeze(1), x, matrix.mT)

    @staticmethod
    def backward(ctx: Any, outgoing: Tensor) -> Any:
        """Give what goes on to x and bias; the matrix's is kept as factors."""
        x, matrix = ctx.saved_tensors
        _, by_x, by_matrix, by_bias = ctx.needs_input_grad
        kept = by_matrix and ctx.slopes.keep(matrix, outgoing, x)
        return (
            None,
            torch.bmm(outgoing, matrix) if by_x else None,
            torch.bmm(outgoing.mT, x) if by_matrix and not kept else None,
            outgoing.sum(1) if by_bias else None,
        )


def _clients_first(value: Tensor | None, at: int | None, count: int) -> Tensor | None:
    if value is None:
        return None
    return value.expand(count, *value.shape) if at is None else value.movedim(at, 0)
