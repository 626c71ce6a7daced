"""The two ports of this room: what a user writes (Task), and what a framework provides (Adapter).

A task says what the model is, how loss is computed and how a site's data become arrays. An adapter makes every
framework look alike to `site.worker`: weights in, weights out, as one flat vector described by a manifest.

    class Penguins(NumpyTask):                      # examples/islands/task.py
        classes = ("Adelie", "Chinstrap", "Gentoo")
        def read(self, site): ...                   # SiteData -> Split
        def model(self, statistics): ...            # -> the framework's model

Laws every adapter keeps (tasks/conformance.py tests them): the same seed gives the same bytes; training from weights
w with learning rate 0 gives a delta of zeros; `train` never changes its arguments; export answers as evaluate scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

from archipel.data.site_data import SiteData
from archipel.spec import LocalTraining, Manifest
from archipel.spec.views import Breakdown

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.int64]
"""Row numbers."""
Samples = Mapping[str, Array]
"""Named arrays that share their first dimension: one row an example."""
Sums = dict[str, Array]
"""Named float64 arrays that add over sites."""
Progress = Callable[[float], None]
"""Called with the share of the work that is done, from 0 to 1."""


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """A site's examples, divided by the task's own rule (the same rule at every site)."""

    train: Samples
    test: Samples
    validation: Samples | None = None


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """A model's parameters and floating-point buffers: one flat vector, laid out by a manifest of one dtype."""

    manifest: Manifest
    vector: Vector
    """Shape (elements,), the manifest's dtype."""
    buffers: tuple[str, ...] = ()
    """Names of the running statistics among them, which no gradient moves; said by `initial` alone."""
    multipliers: Mapping[str, float] = {}
    """Prefix of names → multiplier of the learning rate, where it is not 1; said by `initial` alone."""


class PrivateSteps(msgspec.Struct, frozen=True, kw_only=True):
    """DP-SGD instead of batches of fixed size; see `spec.privacy.ExamplePrivacy`."""

    clip_norm: float
    """Largest L2 norm of one row's gradient."""
    noise_multiplier: float
    """Deviation of the noise on the sum of a step's gradients, over the clip norm."""
    sampling_rate: float
    """Probability with which a row is in a step."""
    steps: int
    secret: bytes
    """What coins and noise follow from; the site's own, and no other work's."""


class LocalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of `train` does: the job's local training, with what the round and the algorithm add."""

    local: LocalTraining
    learning_rate: float
    """This round's rate, schedule applied."""
    epochs: int
    seed: tuple[int, ...]
    """Entropy for this site and round: np.random.default_rng(seed) orders the examples."""
    proximal: float = 0.0
    """FedProx's mu: adds mu / 2 * ||w - w_start||^2 to the loss."""
    client: str = ""
    """Whose work it is, where one process does many clients' and an error must name one."""
    rows: Rows | None = None
    """Which rows of the training split, as a virtual client's; None: all of them."""
    correction: Vector | None = None
    """SCAFFOLD's c - c_i, added to every step's gradient; shape and dtype of the weights' vector."""
    private: PrivateSteps | None = None
    """None: plain steps over all rows, `epochs` times."""


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What `train` returns."""

    delta: Vector
    """New weights minus the start, same shape and dtype."""
    examples: int
    """Rows trained on."""
    steps: int
    """Optimizer steps made."""
    loss_sum: float
    """Sum over the examples seen in the last epoch of their loss at the time they were seen."""
    loss_examples: int
    """How many examples that sum covers."""


class TrainedMean(msgspec.Struct, frozen=True, kw_only=True):
    """What `train_mean` returns."""

    delta: Vector
    """The sum of the clients' deltas, each times its share."""
    steps: int
    """Over all clients, as the next two."""
    loss_sum: float
    loss_examples: int


@runtime_checkable
class Task(Protocol):
    """What a user writes. Framework base classes (NumpyTask, TorchTask) add `loss` and defaults for the rest."""

    def statistics(self, site: SiteData) -> Sums:
        """Sums and counts over rows that all sites' rows are added up to; {} (the default) asks for none."""
        ...

    def read(self, site: SiteData, statistics: Sums) -> Split:
        """Turn the site's data set into arrays; called once per worker process."""
        ...


class Adapter(Protocol):
    """A framework, for one task at one site. Built by `tasks.load.open_adapter`."""

    @property
    def split(self) -> Split:
        """The site's examples, read at the first call."""
        ...

    def initial(self, seed: int) -> Weights:
        """First weights, the same bytes for the same seed at every site."""
        ...

    def train(self, weights: Weights, plan: LocalPlan, progress: Progress) -> Trained:
        """Train on the training split, or the plan's rows of it, from `weights`."""
        ...

    def evaluate(self, weights: Weights, part: str = "test") -> Sums:
        """Score `weights` on a part of the split ("test" or "validation"), as sums of the task's metric family."""
        ...

    def export(self, weights: Weights, target: Path) -> None:
        """Write an ONNX model to `target`: inputs named as the task's features, outputs as `outputs` names them."""
        ...


class Executor(Protocol):
    """Trains many virtual clients, one after another or side by side. Built by `tasks.executors.open_executor`."""

    name: str

    def train(self, weights: Weights, plans: Sequence[LocalPlan]) -> Iterator[Trained]:
        """Yield what each plan comes to from `weights`, in the plans' order.

        Raises:
            NonFiniteError: a client's loss or update is not finite; names the client.
            TaskError: this executor cannot compute this task; says why.
        """
        ...


@runtime_checkable
class MeanExecutor(Executor, Protocol):
    """An executor that can add the clients' deltas up itself, and is faster where it need not hand each out."""

    def train_mean(self, weights: Weights, plans: Sequence[LocalPlan], shares: Sequence[float]) -> TrainedMean:
        """Return the clients' deltas, each times its share, added up; raises as `train` does."""
        ...


class MetricFamily(Protocol):
    """Metrics that are computed from sums: what leaves a site adds up, and anybody can compute the figure."""

    name: str

    def sums(self, scores: Array, labels: Array) -> Sums:
        """Sums over rows; scores (rows, classes) float, labels (rows,) integer."""
        ...

    def summary(self, sums: Mapping[str, Array]) -> dict[str, float]:
        """Figures from added sums, such as {"accuracy": 0.98, "log_loss": 0.1}."""
        ...

    def breakdowns(self, sums: Mapping[str, Array]) -> tuple[Breakdown, ...]:
        """Class by class, where the sums tell; () where they do not."""
        ...


def row_count(samples: Samples) -> int:
    """Return how many rows `samples` has."""
    first: Sequence[Any] | Array = next(iter(samples.values()))
    return len(first)
