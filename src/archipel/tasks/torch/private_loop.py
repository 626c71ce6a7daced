"""DP-SGD: local training whose every step would be nearly the same without any one row.

    1. each row is in the step with probability q, by a secret coin of its own           (Poisson sampling)
    2. the gradient of each row's loss is clipped to norm C                               (torch.func.vmap over rows)
    3. their sum gets Gaussian noise of deviation z C, and is divided by q times the rows
    4. then `local_step` does with it what it does with any gradient

Abadi et al. 2016, "Deep Learning with Differential Privacy", arXiv:1607.00133, Algorithm 1. The divisor does not follow
from who was drawn, and how many rows a site has is taken as known. Coins and noise follow from the plan's secret, which
never leaves the site: from the job's seed anybody could draw the same rows again, and nothing would be amplified.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from archipel.security.privacy import NoiseStream
from archipel.spec import TaskError, require_finite
from archipel.tasks.examples import Teller, rows_planned
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import LocalPlan, PrivateSteps, Progress, Rows, Samples, Trained, Vector
from archipel.tasks.torch.batches import Batches
from archipel.tasks.torch.flat_model import FlatModel
from archipel.tasks.torch.local_step import LocalStep
from archipel.tasks.torch.loss_module import PREFIX, LossModule
from archipel.tasks.torch.task import TorchTask
from archipel.tasks.torch.threads import seeded

MOST_ROWS = 256
MOST_BYTES = 128 * 1024 * 1024
"""Of gradients held at a time, a row each."""


class PrivateLoop:
    """One call of `train` with a plan that has private steps."""

    def __init__(self, task: TorchTask, model: FlatModel, batches: Batches, plan: LocalPlan) -> None:
        if batches.tensors is None:
            hint = "let the task do without a collate() of its own"
            raise TaskError("gradients row by row need the default batches", hint=hint)
        self._tensors = batches.tensors
        self._task = task
        self._model = model
        self._plan = plan
        self._folder = task_folder(task)
        self._loss = LossModule(task, model.module)
        self._weights = model.vector[: model.trained]

    def run(self, start: Vector, private: PrivateSteps, samples: Samples, progress: Progress) -> Trained:
        """Train from `start` on `samples`; no loss is told, for it would be a sum over rows without noise."""
        count, plan = rows_planned(samples, self._plan), self._plan
        rows = np.arange(count) if plan.rows is None else plan.rows
        self._model.put(start)
        with user_code("parameter_groups", self._folder):
            parts = self._model.multipliers(dict(self._task.parameter_groups(self._model.module)))
        local = LocalStep(plan, self._weights.detach(), parts)
        steps = private.steps if count else 0
        teller = Teller(progress, steps)
        self._model.module.train()
        with seeded(plan.seed, self._model.device):
            for step in range(1, steps + 1):
                coins = NoiseStream(private.secret, "rows", step).uniform(0, count)
                total = self._clipped_sum(rows[coins < private.sampling_rate], private.clip_norm)
                noise = NoiseStream(private.secret, "gradient", step)
                noisy = noise.add(total, deviation=private.noise_multiplier * private.clip_norm)
                mean = noisy / (private.sampling_rate * count)
                local.step(torch.from_numpy(mean).to(self._weights))
                teller.step(step)
        delta = self._model.since(start)
        require_finite("the update", delta)
        return Trained(delta=delta, examples=count, steps=steps, loss_sum=0.0, loss_examples=0)

    def _clipped_sum(self, rows: Rows, clip_norm: float) -> npt.NDArray[np.float64]:
        """Return the sum of the rows' clipped gradients, float64; a row whose gradient is not finite adds nothing."""
        total = torch.zeros(self._model.trained, dtype=torch.float64, device=self._model.device)
        for gradients in self._gradients(rows):
            norms = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64)
            scales = torch.clamp(clip_norm / norms, max=1.0)
            bad = ~torch.isfinite(norms)
            gradients[bad] = 0
            scales[bad] = 0
            total += scales @ gradients.to(torch.float64)
        found: npt.NDArray[np.float64] = total.cpu().numpy()
        return found

    def _gradients(self, rows: Rows) -> Iterator[Tensor]:
        """Yield gradients (rows, parameters), some rows at a time."""
        views = {
            PREFIX + name: view[0].detach() for name, view in self._model.unstack(self._model.vector[None]).items()
        }
        trained = {name: view for name, view in views.items() if name in self._loss.trained}
        fixed = {name: view for name, view in views.items() if name not in trained}

        def loss_of(weights: dict[str, Tensor], row: dict[str, Tensor]) -> Tensor:
            return self._loss.of({**weights, **fixed}, {name: value[None] for name, value in row.items()})

        by_row = vmap(grad(loss_of), in_dims=(None, 0), randomness="different")
        width = max(1, min(MOST_ROWS, MOST_BYTES // (4 * self._model.trained)))
        for first in range(0, len(rows), width):
            chosen = torch.from_numpy(rows[first : first + width]).to(self._model.device)
            batch = {name: tensor.index_select(0, chosen) for name, tensor in self._tensors.items()}
            with user_code("loss", self._folder), sdpa_kernel(SDPBackend.MATH):
                try:
                    slopes = by_row(trained, batch)
                except (RuntimeError, NotImplementedError) as error:
                    said = str(error).strip().splitlines() or [type(error).__name__]
                    hint = "let loss() be made of operations that torch.func.vmap knows"
                    raise TaskError(f"no gradients row by row: {said[0]}", hint=hint) from error
            yield torch.cat([slopes[name].reshape(len(chosen), -1) for name in trained], dim=1)
