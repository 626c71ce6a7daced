"""pfl-research: `SimulatedBackend` and federated averaging in one process, weighted by examples."""

from __future__ import annotations

import itertools
import sys
import types
from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn

from simulation.peers.program import Peer


def main() -> None:
    """Let pfl run the rounds; its callback takes the turns."""
    peer = Peer(sys.argv[1])
    module, settings = _with_loss(peer.model()), peer.settings
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), 1.0))
    rounds, cohort = settings["rounds"], settings["cohort"]
    turns = itertools.product(range(1, rounds + 1), range(cohort))
    users = FederatedDataset(lambda turn: _user(peer, turn), lambda: next(turns))
    peer.begin()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=rounds + 1,
            train_cohort_size=cohort,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(users, users, postprocessors=[WeightByDatapoints()]),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=settings["rate"], local_batch_size=settings["batch"]
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=1024),
        callbacks=[_Turns(peer, rounds)],
    )
    peer.finish(module)


class _Turns(TrainingProcessCallback):
    """Ends a turn after each round, and waits for the next."""

    def __init__(self, peer: Peer, rounds: int) -> None:
        self._peer = peer
        self._rounds = rounds

    def after_central_iteration(self, aggregate_metrics: Any, model: Any, *, central_iteration: int) -> Any:
        """Take a turn."""
        del aggregate_metrics, model
        self._peer.end()
        if central_iteration + 1 < self._rounds:
            self._peer.begin()
        return False, Metrics()


def _user(peer: Peer, turn: tuple[int, int]) -> Dataset:
    rows = peer.rows(*turn)
    return Dataset(raw_data=[torch.from_numpy(peer.x[rows]), torch.from_numpy(peer.y[rows])])


def _with_loss(module: nn.Module) -> nn.Module:
    """Add the two methods that pfl asks of a module."""
    criterion = nn.CrossEntropyLoss()

    def loss(self: nn.Module, x: Tensor, y: Tensor, is_eval: bool = False) -> Tensor:  # noqa: FBT001, FBT002
        self.train(not is_eval)
        return criterion(self(x), y)

    def metrics(self: nn.Module, x: Tensor, y: Tensor) -> dict[str, Weighted]:
        self.eval()
        with torch.no_grad():
            return {"accuracy": Weighted(int((self(x).argmax(1) == y).sum()), len(y))}

    module.loss = types.MethodType(loss, module)
    module.metrics = types.MethodType(metrics, module)
    return module


if __name__ == "__main__":
    main()
