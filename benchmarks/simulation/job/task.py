"""The task: arrays of a folder in, one of the models out."""

from __future__ import annotations

import numpy as np
from torch import nn

from archipel.data.site_data import SiteData
from archipel.tasks.port import Split, Sums
from archipel.tasks.torch import TorchTask

from .models import CLASSES, build


class Workload(TorchTask):
    """One workload, by the name of its model."""

    features = ("x",)
    label = "y"

    def __init__(self, *, model: str) -> None:
        self._name = model
        self.classes = tuple(map(str, range(CLASSES[model])))

    def read(self, site: SiteData, statistics: Sums) -> Split:  # noqa: ARG002 (no statistics are asked for)
        """Return the examples, the client of each among them."""
        arrays = {file.stem: np.load(file) for file in site.path.glob("*.npy")}
        train = {name: arrays[name] for name in ("x", "y", "client")}
        return Split(train=train, test={"x": arrays["test_x"], "y": arrays["test_y"]})

    def model(self, statistics: Sums) -> nn.Module:  # noqa: ARG002
        """Return the model, unchanged."""
        return build(self._name)
