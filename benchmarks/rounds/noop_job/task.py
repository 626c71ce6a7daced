"""A task whose training computes nothing: what a round costs is then what moving and folding the weights costs.

Equal bytes have equal names and would not be sent twice, so a site changes one number of its update in every round:
all bytes of the update, and of the model that comes of it, are new.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archipel.tasks.numpy import Network, NumpyTask, Samples, Split, Sums, loop

_UPDATE: dict[int, Any] = {}


def train_nothing(  # noqa: PLR0917 - it stands in for loop.train
    network: Network, start: Any, inputs: Any, labels: Any, plan: Any, progress: Any
) -> Any:
    """Return an update of zeros with one number that is this round's and this site's own."""
    del network, inputs
    delta = _UPDATE.setdefault(start.size, np.full(start.size, 0, start.dtype))
    delta[0] = np.random.default_rng(plan.seed).random()
    progress(1.0)
    rows = len(labels)
    return loop.Trained(delta=delta, examples=rows, steps=1, loss_sum=0.0, loss_examples=rows)


loop.train = train_nothing


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
