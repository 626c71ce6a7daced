"""TorchTask: what a user derives from to train an nn.Module.

    class Flights(TorchTask):
        classes = ("on time", "late")
        features = ("numbers", "codes")
        label = "late"

        def model(self, statistics):
            return Net(...)                                  # called as model(numbers, codes); returns logits

        def read(self, site, statistics):
            ...                                              # SiteData -> Split(train={...}, test={...})

That is enough: loss, scores, batches, evaluation and export have defaults, each of which may be overridden.
What the code draws from torch, numpy.random or random is seeded for each call, so that it is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from archipel.data.site_data import SiteData
from archipel.spec import ShapeError
from archipel.tasks.metrics import Classification, Tagging, added, end_to_end
from archipel.tasks.port import MetricFamily, Samples, Split, Sums

Batch = Any
"""What `collate` returns: by default a dict of tensors; any nest of dicts, lists and tuples of tensors."""


class TorchTask:
    """Base of tasks for framework = "torch"; a subclass gives at least `model` and `read`."""

    classes: Sequence[str] = ()
    """Names of the classes (or tags), in the order of the model's outputs."""
    features: Sequence[str] = ()
    """Sample names that the model takes, in the order of its arguments."""
    label: str = "label"
    """Sample name of the target: class numbers, -100 where there is none (padding)."""
    outputs: Sequence[str] = ("probabilities",)
    """Name of the exported model's output."""
    metrics: Literal["classification", "tagging"] = "classification"
    """Which family scores the model; tagging reads `classes` as tags such as "B-PER"."""
    evaluation_rows: int = 1024
    """Rows scored at a time."""
    dynamic: Mapping[str, Mapping[int, str]] = {}
    """For export: axes besides the first whose length varies, as {"tokens": {1: "length"}}."""

    def statistics(self, site: SiteData) -> Sums:  # noqa: ARG002 (for those who override it)
        """Sums over this site's rows that all sites' sums are added to; the default asks for none."""
        return {}

    def read(self, site: SiteData, statistics: Sums) -> Split:
        """Turn the site's data set into arrays."""
        raise NotImplementedError("give your task a method read(self, site, statistics) that returns a Split")

    def model(self, statistics: Sums) -> nn.Module:
        """Build the model; the same one at every site."""
        raise NotImplementedError("give your task a method model(self, statistics) that returns an nn.Module")

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the model's logits for a batch."""
        require_names(batch, self.features)
        return model(*(batch[name] for name in self.features))  # type: ignore[no-any-return]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch: cross-entropy, or its binary form where the model gives one logit a row."""
        require_names(batch, (self.label,))
        logits, target = self.forward(model, batch), batch[self.label]
        if is_binary(logits):
            return functional.binary_cross_entropy_with_logits(logits.reshape(-1), target.to(logits.dtype))
        return functional.cross_entropy(logits.flatten(0, -2), target.flatten().long())

    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return probabilities, the classes last."""
        logits = self.forward(model, batch)
        if is_binary(logits):
            one = torch.sigmoid(logits.reshape(-1))
            return torch.stack((1 - one, one), dim=1)
        return torch.softmax(logits, dim=-1)

    def collate(self, samples: Samples, rows: npt.NDArray[np.int64]) -> Batch:
        """Return the batch of the given rows: every numeric array as a tensor, float64 as float32."""
        return {name: tensor_of(name, samples[name][rows]) for name in self.numeric(samples)}

    def numeric(self, samples: Samples) -> list[str]:
        """Return the names of the samples that are in a batch: numbers, and whatever the model or the loss asks for."""
        asked = {*self.features, self.label}
        return [name for name, array in samples.items() if array.dtype.kind in "fiub" or name in asked]

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Sums:
        """Return the sums of the task's metric family over batches; override for figures of your own ("mean.…")."""
        total = added(self.score_batch(model, batch) for batch in batches)
        if total or not self.classes:
            return total
        # A site without such rows still answers, with zeros that can be added to the others' sums.
        return self._family().sums(np.zeros((0, len(self.classes))), np.zeros(0, np.int64))

    def score_batch(self, model: nn.Module, batch: Batch) -> Sums:
        """Return the sums of one batch."""
        scores = self.scores(model, batch).detach().cpu().numpy()
        labels = batch[self.label].detach().cpu().numpy()
        if self.metrics == "tagging":
            scores, labels = end_to_end(scores, labels)
        return self._family().sums(scores, labels.astype(np.int64))

    def parameter_groups(self, model: nn.Module) -> Mapping[str, float]:  # noqa: ARG002
        """Return multipliers of the learning rate by prefix of parameter names, as {"encoder.": 0.1}."""
        return {}

    def trainable(self, name: str) -> bool:  # noqa: ARG002
        """Say whether a parameter or buffer takes part; what does not stays as `model` made it and never travels."""
        return True

    def _family(self) -> MetricFamily:
        return Tagging(self.classes) if self.metrics == "tagging" else Classification()


def require_names(batch: Mapping[str, Tensor], names: Iterable[str]) -> None:
    """Raise a ShapeError where a batch lacks one of `names`."""
    for name in names:
        if name not in batch:
            raise ShapeError(f"a batch has no {name!r}", hint=f"read() gives {', '.join(batch)}")


def is_binary(logits: Tensor) -> bool:
    """Say whether there is one logit a row."""
    return logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1)


def tensor_of(name: str, array: npt.NDArray[Any]) -> Tensor:
    """Return a numeric array as a tensor, float64 as float32; over the same memory where it can be."""
    if array.dtype.kind not in "fiub":
        raise ShapeError(f"read() gives {name!r} as {array.dtype}", hint="give numbers, or override collate()")
    if array.dtype == np.float64:
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array if array.flags.writeable else array.copy())
