"""RoundTask and Update: what a site is asked in a round, and what it answers.

    RoundTask (one per run, round and site)  →  site.worker  →  Update (counted once by the same key)

A run is a sequence of rounds, numbered from 0, each of one kind:

    check        read the data set, hold it against the contract             → dataset manifest
    statistics   the task's sums over rows (only if the task asks for them)  → part "sums"
    initialise   make the first weights from the seed                        → part "model"
    train        local training from the given model                         → parts "delta" (and "control")
    alone        the whole budget of training without the others            → part "model"
    personalise  fine-tune the final model                                   → part "model"
    evaluate     score the listed models on the site's test rows             → part "sums"
    export       turn weights into ONNX, for serving here                    → part "onnx"

Big things travel as blobs beside the value: a `Blob` names bytes by digest. Weights, deltas and sums are
safetensors bytes (see tensors.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from archipel.spec.canonical import Digest, Name, Value
from archipel.spec.dataset import DatasetManifest
from archipel.spec.errors import ArchipelError
from archipel.spec.job import JobSpec, Rate

Kind = Literal["check", "statistics", "initialise", "train", "alone", "personalise", "evaluate", "export"]
Leg = Literal["compute", "advertise", "share", "mask", "consent", "release"]
"""The rounds that a sum takes under secure aggregation: the work itself, then the protocol's stages, or with a
helper some of them."""
RoundNumber = Annotated[int, Meta(ge=0)]


class Blob(Value, frozen=True, kw_only=True):
    """Bytes somewhere, named by their digest."""

    digest: Digest
    size_bytes: Annotated[int, Meta(ge=0)]


class NamedModel(Value, frozen=True, kw_only=True):
    """A model to be scored. Names: "federated", "alone/SITE", "personalised/SITE"."""

    name: str
    blob: Blob


class RoundTask(Value, frozen=True, kw_only=True, tag_field="type", tag="round-task/1"):
    """What one site is asked to do in one round. Self-contained: with its blobs it can be replayed from a file."""

    run: Name
    round: RoundNumber
    site: Name
    kind: Kind
    job: JobSpec
    bundle: Blob
    """The task's code, a zip of the files named by job.task.include."""
    step: RoundNumber = 0
    """Which training round this is, from 1 (learning-rate schedules and random streams follow it). For evaluate: the
    training round whose model is scored on validation rows; 0: the final scoring, on test rows. 0 for the others."""
    model: Blob | None = None
    """Weights to begin from (train, personalise, export)."""
    models: tuple[NamedModel, ...] = ()
    """Models to be scored (evaluate)."""
    statistics: Blob | None = None
    """The sums of all sites, once known."""
    variant: dict[str, float] = field(default_factory=dict)
    """The algorithm's local numbers: {"mu": …} for FedProx."""
    inputs: dict[str, Blob] = field(default_factory=dict)
    """The algorithm's local arrays: {"control": …} for SCAFFOLD."""
    clip_norm: Rate | None = None
    """Largest L2 norm of the delta that may leave the site (train, with [privacy.central]); None: any."""
    leg: Leg | None = None
    """Which part of a secure sum this round is; None: the answer itself is asked for."""
    message: bytes = b""
    """What the coordinator says in this leg: a message of `security.secagg` or `security.two_server`."""
    share: bool = False
    """May the resulting "model" or "onnx" part leave the site (deltas and sums always do)?"""

    def blobs(self) -> dict[str, Blob]:
        """Return every blob the task needs, by digest."""
        named = [self.bundle, self.model, self.statistics, *self.inputs.values(), *(item.blob for item in self.models)]
        return {blob.digest: blob for blob in named if blob is not None}


class Part(Value, frozen=True, kw_only=True):
    """One blob of an update."""

    blob: Blob
    manifest: Digest | None = None
    """Digest of the tensor manifest; None where the bytes are not tensors (ONNX)."""
    stands_for: Digest | None = None
    """Digest of the manifest of the tensors that these stand for, compressed; None: for themselves."""
    shared: bool = True
    """False: the bytes stay at the site; only this description leaves it."""


class Update(Value, frozen=True, kw_only=True, tag_field="type", tag="update/1"):
    """What a site answers. The key (run, round, site) is counted exactly once."""

    run: Name
    round: RoundNumber
    site: Name
    kind: Kind
    parts: dict[str, Part] = field(default_factory=dict)
    weight: Annotated[float, Meta(ge=0)] = 0.0
    """Training examples behind it (or 1.0 where the job weighs sites equally)."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Sums that add over sites: "examples", "loss_sum", …"""
    dataset: DatasetManifest | None = None
    """For kind "check"."""
    message: bytes = b""
    """What the site says in a leg of a secure sum: a message of `security.secagg` or `security.two_server`, or of
    `federated.secure.vector`."""
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    """Wall time of the work at the site; never enters a model."""


class Refusal(Value, frozen=True, kw_only=True, tag_field="type", tag="refusal/1"):
    """A site's answer when it cannot or may not do the work."""

    run: Name
    round: RoundNumber
    site: Name
    error: str
    """Class name in the error tree, such as "DataError"."""
    message: str
    hint: str = ""

    @classmethod
    def of(cls, work: RoundTask | Update, error: ArchipelError) -> Refusal:
        """Refuse a task, or what a site sent for it, because of `error`."""
        return cls(
            run=work.run,
            round=work.round,
            site=work.site,
            error=type(error).__name__,
            message=error.message,
            hint=error.hint,
        )
