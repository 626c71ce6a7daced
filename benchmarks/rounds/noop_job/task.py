"""A task whose training computes nothing: what a round costs is then what moving and folding the weights costs.

Equal bytes have equal names and would not be sent twice, so a site changes one number of its update in every round:
all bytes of the update, and of the model that comes of it, are new.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archipel.tasks.numpy import Network, NumpyTask, Samples, Split, Sums
from archipel.tasks.numpy.adapter import NumpyAdapter
from archipel.tasks.port import LocalPlan, Progress, Trained, Weights

_UPDATE: dict[int, Any] = {}


def train_nothing(adapter: Any, weights: Weights, plan: LocalPlan, progress: Progress) -> Trained:
    """Return an update of zeros with one number that is this round's and this site's own."""
    del adapter
    size = weights.vector.size
    if size not in _UPDATE:
        _UPDATE[size] = np.full(size, 0, weights.vector.dtype)  # written once: later rounds compute nothing
    delta = _UPDATE[size]
    delta[0] = np.random.default_rng(plan.seed).random()
    progress(1.0)
    return Trained(delta=delta, examples=1, steps=1, loss_sum=0.0, loss_examples=1)


def begin_with_zeros(adapter: Any, seed: int) -> Weights:
    """Return a first model that costs nothing to draw."""
    del seed
    manifest = adapter._manifest  # noqa: SLF001 - it stands in for the adapter's own method
    return Weights(manifest=manifest, vector=np.zeros(manifest.size_bytes // 4, np.float32))


NumpyAdapter.train = train_nothing  # type: ignore[method-assign]
NumpyAdapter.initial = begin_with_zeros  # type: ignore[method-assign]


class Noop(NumpyTask):
    """A network of 4 * width + 2 parameters over one made-up row."""

    classes = ("no", "yes")
    features = ("x",)

    def __init__(self, width: int) -> None:
        self.width = width

    def statistics(self, site: Any) -> Sums:
        """Ask for nothing."""
        del site
        return {}

    def read(self, site: Any, statistics: Sums) -> Split:
        """One row to train on, the same one to test on."""
        del site, statistics
        row: Samples = {"x": np.ones(1), "label": np.zeros(1, np.int64)}
        return Split(train=row, test=row)

    def model(self, statistics: Sums) -> Network:
        """One hidden layer that holds nearly all of the weights."""
        del statistics
        return Network(inputs=1, hidden=(self.width,), outputs=2)
