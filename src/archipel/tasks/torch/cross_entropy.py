"""Cross-entropy of clients side by side: one computation of (clients, rows, classes).

Left to itself `vmap` computes it by a formula in Python, which costs more than the products of a small model, and whose
first use imports a symbolic algebra system (2 CPU-seconds).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100
"""Labels that do not count, as torch has it."""


_DEFAULTS = {
    "weight": None,
    "size_average": None,
    "ignore_index": IGNORED,
    "reduce": None,
    "reduction": "mean",
    "label_smoothing": 0.0,
}
"""Of functional.cross_entropy; torch hands all of them on, whether they were given or not."""


def is_plain(logits: Any, target: Any, *more: Any, **options: Any) -> bool:
    """Is it the mean over rows (rows, classes) with whole labels (rows,), and nothing else asked for?"""
    if more or not (isinstance(logits, Tensor) and isinstance(target, Tensor)):
        return False
    if any(value is not _DEFAULTS.get(name) and value != _DEFAULTS.get(name) for name, value in options.items()):
        return False
    return logits.ndim == 2 and target.ndim == 1 and not target.dtype.is_floating_point


def cross_entropy(logits: Tensor, target: Tensor) -> Any:
    """Compute functional.cross_entropy(logits, target) inside of vmap."""
    return _CrossEntropy.apply(logits, target)  # type: ignore[no-untyped-call]


class _CrossEntropy(torch.autograd.Function):
    """That of one client, as it is seen inside of vmap."""

    @staticmethod
    def forward(logits: Tensor, target: Tensor) -> Tensor:
        """Nothing here is a client's own."""
        return functional.cross_entropy(logits, target)

    @staticmethod
    def setup_context(_ctx: Any, _inputs: Any, _output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(info: Any, axes: Any, logits: Tensor, target: Tensor) -> tuple[Tensor, int]:
        """Compute (clients,)."""
        given = zip((logits, target), axes, strict=True)
        every = (
            value.expand(info.batch_size, *value.shape) if at is None else value.movedim(at, 0) for value, at in given
        )
        found: Tensor = _Means.apply(*every)  # type: ignore[no-untyped-call]
        return found, 0


class _Means(torch.autograd.Function):
    """The mean over the rows of each client: (clients, rows, classes), (clients, rows)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        """Compute (clients,)."""
        chances = torch.log_softmax(logits, -1)
        counted = (target != IGNORED).to(chances.dtype)
        shares = counted / counted.sum(1, keepdim=True)
        target = target.long().clamp_min(0).unsqueeze(-1)
        ctx.save_for_backward(chances, target, shares)
        return -(chances.gather(-1, target).squeeze(-1) * shares).sum(1)

    @staticmethod
    def backward(ctx: Any, outgoing: Tensor) -> Any:
        """Give softmax minus the label, a row's share of it."""
        chances, target, shares = ctx.saved_tensors
        slope = chances.exp()
        slope.scatter_add_(-1, target, slope.new_full((), -1.0).expand(target.shape))
        return slope.mul_((shares * outgoing.unsqueeze(1)).unsqueeze(-1)), None
