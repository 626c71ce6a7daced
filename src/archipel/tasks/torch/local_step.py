"""What a step does with a gradient: clip its norm → + mu (w - w_start) → + correction → optimizer, on flat tensors.

One for each client at work: its state (momentum, Adam's moments) begins with a call of `train` and ends with it.

FedProx: Li et al. 2020, arXiv:1812.06127, eq. 2. SCAFFOLD: Karimireddy et al. 2020, arXiv:1910.06378, eq. 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archipel.tasks.port import LocalPlan
from archipel.tasks.torch.optimizer import FlatOptimizer


def is_plain(plan: LocalPlan) -> bool:
    """Is a step of the plan weights -= rate * gradient, and nothing more?"""
    local = plan.local
    more = (local.momentum, local.weight_decay, local.clip_norm is not None, plan.proximal, plan.correction is not None)
    return local.optimizer == "sgd" and not any(more)


class LocalStep:
    """Steps of one client; `weights`, where it starts from, is changed in place."""

    def __init__(self, plan: LocalPlan, weights: Tensor, parts: Sequence[tuple[slice, float]] = ()) -> None:
        self._plan = plan
        self._weights = weights
        self._begin = weights.clone() if plan.proximal else weights
        self._correction = None
        if plan.correction is not None:
            self._correction = torch.tensor(plan.correction[: len(weights)], device=weights.device)
        self._optimizer = FlatOptimizer(plan.local, plan.learning_rate, weights, parts)

    def step(self, gradient: Tensor) -> None:
        """Move the weights; the gradient is used up."""
        plan = self._plan
        if plan.local.clip_norm is not None:
            norm = float(torch.linalg.vector_norm(gradient))
            if norm > plan.local.clip_norm:
                gradient.mul_(plan.local.clip_norm / norm)
        if plan.proximal:
            gradient.add_(self._weights - self._begin, alpha=plan.proximal)
        if self._correction is not None:
            gradient.add_(self._correction)
        self._optimizer.step(gradient)
