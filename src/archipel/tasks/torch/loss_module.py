"""A task's loss as a module, so that its weights can be given for each call."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call

from archipel.tasks.torch.task import Batch, TorchTask

PREFIX = "inner."
"""Before the model's own names."""


class LossModule(nn.Module):
    """`trained` names the parameters that a gradient is for."""

    def __init__(self, task: TorchTask, module: nn.Module) -> None:
        super().__init__()
        self._task = task
        self.inner = module
        self.trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def forward(self, batch: Batch) -> Tensor:
        """Return the task's loss of a batch."""
        return self._task.loss(self.inner, batch)

    def of(self, weights: dict[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of one batch by these weights."""
        loss: Tensor = functional_call(self, weights, (batch,))
        return loss
