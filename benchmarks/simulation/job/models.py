"""The models, plain torch modules: every contender trains these."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

SIDE, WORDS = 28, 200
CLASSES = {"lr": 62, "mlp": 10, "cnn": 62, "gru": 10, "transformer": 10, "flute": 10, "cifar": 10}


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


def small_cnn() -> nn.Module:
    """Return the two-convolution network that pfl-research publishes CIFAR-10 figures for, for (rows, 3, 32, 32)."""
    model = nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(3, 32, 3),
            first_on=nn.ReLU(),
            second=nn.Conv2d(32, 64, 3),
            second_on=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            thin=nn.Dropout(0.25),
            flat=nn.Flatten(),
            dense=nn.Linear(14 * 14 * 64, 128),
            dense_on=nn.ReLU(),
            thinner=nn.Dropout(0.5),
            out=nn.Linear(128, 10),
        )
    )
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    return model


def build(name: str) -> nn.Module:
    """Return a model by its name, on whatever weights torch draws."""
    if name in {"lr", "flute"}:
        return nn.Linear(SIDE * SIDE, CLASSES[name])
    if name == "mlp":
        return nn.Sequential(nn.Linear(SIDE * SIDE, 128), nn.ReLU(), nn.Linear(128, 10))
    return {"cnn": Convolutions, "gru": Recurrent, "transformer": Attentive, "cifar": small_cnn}[name]()
