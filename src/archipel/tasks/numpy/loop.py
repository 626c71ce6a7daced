"""The plain executor: one site after another, one batch after another, on one flat vector.

A step: gradient of the batch's mean loss → clip its norm → + mu (w - w_start) → + correction → optimizer.

FedProx: Li et al. 2020, arXiv:1812.06127, eq. 2. SCAFFOLD: Karimireddy et al. 2020, arXiv:1910.06378, eq. 3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.spec import NonFiniteError, require_finite
from archipel.tasks.examples import Teller, epoch_batches, step_count
from archipel.tasks.numpy.network import Network, Pass
from archipel.tasks.numpy.optimizer import FlatOptimizer
from archipel.tasks.port import LocalPlan, Progress, Trained

Array = npt.NDArray[Any]


def train(
    network: Network, start: Array, examples: tuple[Array, Array], plan: LocalPlan, progress: Progress
) -> Trained:
    """Train from `start` on examples: scaled inputs (rows, features) and class numbers (rows,)."""
    inputs, labels = examples
    rows = len(labels) if plan.rows is None else len(plan.rows)
    vector, gradient = start.copy(), np.zeros_like(start)
    batch = Pass(network, vector, gradient, min(plan.local.batch_size, max(rows, 1)))
    optimizer = FlatOptimizer(plan.local, plan.learning_rate, vector)
    teller = Teller(progress, step_count(rows, plan))
    step, loss_sum, loss_examples = 0, 0.0, 0
    for epoch, chosen in epoch_batches(rows, plan):
        loss = batch.learn(inputs[chosen], labels[chosen])
        step += 1
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"the loss is {loss} at step {step}", hint="lower the learning rate, clip gradients or check the data"
            )
        if epoch == plan.epochs - 1:
            loss_sum += loss
            loss_examples += len(chosen)
        shape_gradient(gradient, vector, start, plan)
        optimizer.step(gradient)
        teller.step(step)
    vector -= start
    require_finite("the update", vector)
    return Trained(delta=vector, examples=rows, steps=step, loss_sum=loss_sum, loss_examples=loss_examples)


def shape_gradient(gradient: Array, vector: Array, start: Array, plan: LocalPlan) -> None:
    """Clip the gradient, then add the proximal term and the correction, in place."""
    if plan.local.clip_norm is not None:
        norm = float(np.linalg.norm(gradient))
        if norm > plan.local.clip_norm:
            gradient *= plan.local.clip_norm / norm
    if plan.proximal:
        gradient += plan.proximal * (vector - start)
    if plan.correction is not None:
        gradient += plan.correction
