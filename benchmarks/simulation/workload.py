"""The workload: 1,000 clients of log-normal size, skewed labels, a shift of each client's own, and five models.

Images are smooth class prototypes + the client's shift + pixel noise; sequences are words whose frequencies depend on
the class. The same examples, in the same order, reach every contender.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from archipel.data.site_data import SiteData
from archipel.tasks.port import Samples, Split
from archipel.tasks.torch import TorchTask

Array = npt.NDArray[Any]
CLIENTS, MEAN_ROWS, SIGMA, FEWEST, MOST, SKEW = 1000, 60, 0.6, 5, 400, 0.5
SIDE, WORDS, LENGTH, TEST_ROWS = 28, 200, 32, 2000
CLASSES = {"lr": 62, "mlp": 10, "cnn": 62, "gru": 10, "transformer": 10}
COHORTS = {"lr": 50, "mlp": 50, "cnn": 10, "gru": 10, "transformer": 10}


class Convolutions(nn.Module):
    """Two convolutions of 5 x 5, each pooled, and two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 32, 5, padding=2)
        self.second = nn.Conv2d(32, 64, 5, padding=2)
        self.dense = nn.Linear(64 * 49, 512)
        self.out = nn.Linear(512, 62)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, 784) to scores."""
        x = functional.max_pool2d(functional.relu(self.first(x.view(-1, 1, SIDE, SIDE))), 2)
        x = functional.max_pool2d(functional.relu(self.second(x)), 2)
        scores: Tensor = self.out(functional.relu(self.dense(x.flatten(1))))
        return scores


class Recurrent(nn.Module):
    """A one-layer GRU of 128 over 32 words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 64)
        self.cells = nn.GRU(64, 128, batch_first=True)
        self.out = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, words) to scores."""
        scores: Tensor = self.out(self.cells(self.words(x))[0][:, -1])
        return scores


class Attentive(nn.Module):
    """Two transformer layers of width 64 over 32 words, without dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, words) to scores."""
        scores: Tensor = self.out(self.layers(self.words(x)).mean(1))
        return scores


def build(name: str) -> nn.Module:
    """Return a model by its name."""
    if name == "lr":
        return nn.Linear(SIDE * SIDE, 62)
    if name == "mlp":
        return nn.Sequential(nn.Linear(SIDE * SIDE, 128), nn.ReLU(), nn.Linear(128, 10))
    return {"cnn": Convolutions, "gru": Recurrent, "transformer": Attentive}[name]()


def examples(name: str, seed: int = 0) -> tuple[Samples, Samples]:
    """Return training samples, "client" among them, and test samples."""
    rng = np.random.default_rng(seed)
    classes = CLASSES[name]
    drawn = rng.lognormal(np.log(MEAN_ROWS) - SIGMA**2 / 2, SIGMA, CLIENTS)
    sizes = np.clip(drawn, FEWEST, MOST).astype(np.int64)
    shares = rng.dirichlet(np.full(classes, SKEW), CLIENTS)
    labels = np.concatenate([rng.choice(classes, size, p=share) for size, share in zip(sizes, shares, strict=True)])
    clients = np.repeat([f"c{number:04d}" for number in range(CLIENTS)], sizes)
    tested = rng.integers(0, classes, TEST_ROWS)
    draw = _sequences if name in {"gru", "transformer"} else _images
    train, test = draw(rng, classes, labels, sizes), draw(rng, classes, tested, np.ones(TEST_ROWS, np.int64))
    return {"x": train, "y": labels, "client": clients}, {"x": test, "y": tested}


def _images(rng: np.random.Generator, classes: int, labels: Array, sizes: Array) -> Array:
    coarse = np.random.default_rng(1).normal(size=(classes, 7, 7))
    prototypes = np.kron(coarse, np.ones((4, 4))).reshape(classes, -1)
    shifts = np.repeat(rng.normal(scale=0.3, size=(len(sizes), SIDE * SIDE)).astype(np.float32), sizes, axis=0)
    noise = rng.normal(scale=1.5, size=(len(labels), SIDE * SIDE))
    return (0.5 * prototypes[labels] + shifts + noise).astype(np.float32)


def _sequences(rng: np.random.Generator, classes: int, labels: Array, sizes: Array) -> Array:  # noqa: ARG001
    frequent = np.random.default_rng(1).dirichlet(np.full(WORDS, 0.3), classes)
    edges = np.cumsum(frequent, axis=1)
    drawn = rng.random((len(labels), LENGTH))
    found = [np.searchsorted(edges[label], row) for label, row in zip(labels, drawn, strict=True)]
    return np.minimum(np.array(found), WORDS - 1).astype(np.int64)


class Workload(TorchTask):
    """The workload as a user would write it."""

    features = ("x",)
    label = "y"

    def __init__(self, name: str) -> None:
        self._name = name
        self.classes = tuple(map(str, range(CLASSES[name])))

    def read(self, site: SiteData, statistics: Any) -> Split:  # noqa: ARG002
        """Return the examples of this workload."""
        train, test = examples(self._name)
        return Split(train=train, test=test)

    def model(self, statistics: Any) -> nn.Module:  # noqa: ARG002
        """Return the model, unchanged."""
        return build(self._name)


def manual_seed() -> None:
    """Let every contender begin from the same weights."""
    torch.manual_seed(0)
