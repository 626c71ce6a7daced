"""SGD (momentum), Adam and AdamW on one flat tensor, with multipliers of the rate for parts of it.

The results are torch.optim's, whose first use costs 1.6 CPU-seconds of imports and whose steps cost one dispatch a
parameter. State starts fresh with every call of `train`.

Adam: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1. AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from archipel.spec import LocalTraining
from archipel.tasks.adam import BETA1, BETA2, EPSILON


class FlatOptimizer:
    """Steps on a tensor that asks for no gradient, in place; the gradient given to `step` is used up."""

    def __init__(
        self, local: LocalTraining, learning_rate: float, vector: Tensor, parts: Sequence[tuple[slice, float]] = ()
    ) -> None:
        self._local = local
        self._vector = vector
        self._parts = [(part, learning_rate * factor) for part, factor in parts or [(slice(None), 1.0)]]
        self._steps = 0
        adaptive = local.optimizer != "sgd"
        self._first = torch.zeros_like(vector) if adaptive or local.momentum else None
        self._second = torch.zeros_like(vector) if adaptive else None

    def step(self, gradient: Tensor) -> None:
        """Move the tensor one step."""
        self._steps += 1
        decay = self._local.weight_decay
        if decay and self._local.optimizer == "adamw":
            for part, rate in self._parts:
                self._vector[part].mul_(1 - rate * decay)
        elif decay:
            gradient.add_(self._vector, alpha=decay)
        if self._second is not None:
            self._adam_step(gradient)
            return
        if self._first is not None:
            gradient = self._first.mul_(self._local.momentum).add_(gradient)
        for part, rate in self._parts:
            self._vector[part].add_(gradient[part], alpha=-rate)

    def _adam_step(self, gradient: Tensor) -> None:
        assert self._first is not None
        assert self._second is not None
        self._first.lerp_(gradient, 1 - BETA1)
        self._second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        root = torch.sqrt(self._second, out=gradient)
        root.div_(math.sqrt(1 - BETA2**self._steps)).add_(EPSILON)
        for part, rate in self._parts:
            self._vector[part].addcdiv_(self._first[part], root[part], value=-rate / (1 - BETA1**self._steps))
