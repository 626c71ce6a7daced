"""The port of an algorithm, and the events and instructions of the coordinator.

An algorithm is init + apply over plain vectors. `apply` is elementwise over a block of columns, so a model of any
size is aggregated in constant memory and in an order that does not depend on who came first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from archipel.federated.secure.opening import Unmasking
from archipel.spec import Blob, Manifest, NamedModel, Refusal, RoundTask, Update

Block = npt.NDArray[np.floating[Any]]


class RoundFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an algorithm may know about a training round."""

    step: int
    """Training round, from 1."""
    cohort: int
    """Sites whose updates are folded."""
    population: int
    """Sites of the run."""


class Algorithm(Protocol):
    """How updates become the next model."""

    name: str
    weighted: tuple[str, ...]
    """Update parts averaged by the updates' weights ("delta")."""
    uniform: tuple[str, ...]
    """Update parts averaged with equal weights ("control" in SCAFFOLD)."""
    state: tuple[str, ...]
    """Server vectors of the model's length, zero before the first round; kept as flat tensors in one blob."""
    sent: tuple[str, ...]
    """Those of `state` the sites need: RoundTask.inputs names the state's blob for each of them (absent in round 1)."""

    def variant(self) -> dict[str, float]:
        """Numbers the sites need, put into RoundTask.variant."""
        ...

    def apply(
        self, facts: RoundFacts, model: Block, means: Mapping[str, Block], state: Mapping[str, Block]
    ) -> tuple[Block, dict[str, Block]]:
        """Return the next model block and the next block of each state vector; arguments are not changed."""
        ...


# ---- coordinator: events in -------------------------------------------------------------------------------------


class UpdateAccepted(msgspec.Struct, frozen=True, tag="update-accepted"):
    """A verified update of an open round (its blobs are spooled)."""

    update: Update


class SiteRefused(msgspec.Struct, frozen=True, tag="site-refused"):
    """A site will not, or cannot, do the work of a round."""

    refusal: Refusal


class UpdateRejected(msgspec.Struct, frozen=True, tag="update-rejected"):
    """While folding, the driver found an accepted update unusable (NaN, wrong shape): it no longer counts."""

    refusal: Refusal


class SiteLost(msgspec.Struct, frozen=True, tag="site-lost"):
    """A site's lease ended. Matters only where the job says absent = "quorum"."""

    site: str


class SiteBack(msgspec.Struct, frozen=True, tag="site-back"):
    """A lost site is here again."""

    site: str


class Outlier(msgspec.Struct, frozen=True, kw_only=True):
    """An update unlike the others of its round, and what was done about it."""

    site: str
    part: str
    """Which part of the update."""
    norm: float | None
    """Its L2 norm; None: it holds NaN or infinity."""
    median: float | None
    """Median norm of the round's updates; None: not asked."""
    handled: Literal["counted", "shortened", "left out"]


class RoundFolded(msgspec.Struct, frozen=True, tag="round-folded"):
    """The driver has carried out a Fold; the results are stored."""

    round: int
    model: Blob | None
    """New global weights (train, initialise)."""
    manifest: Manifest | None = None
    """How they lie (initialise)."""
    state: Blob | None = None
    """New server state: the algorithm's `state` vectors as tensors; None where there are none."""
    sums: Blob | None = None
    """Added sums (statistics, evaluate)."""
    outliers: tuple[Outlier, ...] = ()
    """Updates unlike the others (train)."""
    clip_norm: float | None = None
    """The next training round's, where it adapts (train)."""
    metrics: dict[str, float] = {}
    """Of a secure sum: the sites' metrics, added. Otherwise each update has its own."""


class RunFailed(msgspec.Struct, frozen=True, tag="run-failed"):
    """The driver cannot go on (disk full, a blob lost); after mending, a RunResumed goes on from here."""

    error: str
    message: str
    hint: str


class RunStopped(msgspec.Struct, frozen=True, tag="run-stopped"):
    """The operator stopped the run; a RunResumed goes on."""


class RunResumed(msgspec.Struct, frozen=True, tag="run-resumed"):
    """The operator lets a stopped or failed run go on: refusals of the open round are forgotten and asked again."""


RunEvent = (
    UpdateAccepted
    | SiteRefused
    | UpdateRejected
    | SiteLost
    | SiteBack
    | RoundFolded
    | RunFailed
    | RunStopped
    | RunResumed
)


# ---- coordinator: instructions out ------------------------------------------------------------------------------


class Ask(msgspec.Struct, frozen=True):
    """Send this task to its site; idempotent."""

    task: RoundTask


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """Combine these updates, in this order (sorted by site), then report RoundFolded; idempotent."""

    round: int
    kind: str
    updates: tuple[Update, ...]
    model: Blob | None
    state: Blob | None
    facts: RoundFacts
    clip_norm: float | None = None
    """That the updates were clipped to (train, with [privacy.central])."""
    unmasking: Unmasking | None = None
    """The updates are masked vectors: how their total is read. None: they are what they say."""


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """The run is over; register the model. Everything the registry needs is here."""

    model: Blob
    onnx: Blob | None
    sums: Blob | None
    """Added evaluation sums, keys "MODEL|SUM"."""
    participation: tuple[tuple[str, ...], ...]
    models: tuple[NamedModel, ...]


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """The run cannot go on (too few sites pass); it is resumable once the reason is gone."""

    message: str
    hint: str


class Explain(msgspec.Struct, frozen=True):
    """Say why an update that was accepted cannot be used: the coordinator refuses it, not its site."""

    refusal: Refusal


Instruction = Ask | Fold | Finish | GiveUp | Explain
