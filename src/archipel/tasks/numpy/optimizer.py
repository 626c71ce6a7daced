"""SGD (momentum), Adam and AdamW on one flat vector, without an allocation a step.

Formulas and order of operations as in torch.optim: weight decay is added to the gradient, except for AdamW, which
shrinks the weights by learning_rate * weight_decay first. State starts fresh with every call of `train`.

Adam: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1. AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.spec import LocalTraining
from archipel.tasks.adam import BETA1, BETA2, EPSILON

Array = npt.NDArray[Any]


class FlatOptimizer:
    """Steps on a vector in place; the gradient given to `step` is used up."""

    def __init__(self, local: LocalTraining, learning_rate: float, vector: Array) -> None:
        self._local = local
        self._rate = learning_rate
        self._vector = vector
        self._scratch = np.empty_like(vector)
        self._steps = 0
        adaptive = local.optimizer != "sgd"
        self._first = np.zeros_like(vector) if adaptive or local.momentum else None
        self._second = np.zeros_like(vector) if adaptive else None

    def step(self, gradient: Array) -> None:
        """Move the vector one step."""
        self._steps += 1
        decay = self._local.weight_decay
        if decay and self._local.optimizer == "adamw":
            self._vector *= 1 - self._rate * decay
        elif decay:
            gradient += np.multiply(self._vector, decay, out=self._scratch)
        if self._first is None:
            gradient *= self._rate
            self._vector -= gradient
        elif self._second is None:
            self._momentum_step(gradient, self._first)
        else:
            self._adam_step(gradient, self._first, self._second)

    def _momentum_step(self, gradient: Array, velocity: Array) -> None:
        velocity *= self._local.momentum
        velocity += gradient
        self._vector -= np.multiply(velocity, self._rate, out=self._scratch)

    def _adam_step(self, gradient: Array, first: Array, second: Array) -> None:
        np.subtract(gradient, first, out=self._scratch)
        self._scratch *= 1 - BETA1
        first += self._scratch
        second *= BETA2
        np.multiply(gradient, gradient, out=self._scratch)
        self._scratch *= 1 - BETA2
        second += self._scratch
        np.sqrt(second, out=self._scratch)
        self._scratch /= float(np.sqrt(1 - BETA2**self._steps))
        self._scratch += EPSILON
        np.divide(first, self._scratch, out=self._scratch)
        self._scratch *= self._rate / (1 - BETA1**self._steps)
        self._vector -= self._scratch
