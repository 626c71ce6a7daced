"""The stages of a run: which rounds it has, who is asked in each, and with what task.

    check → [statistics] → initialise → train 1 … R (evaluate every E) → [alone] → [personalise] → evaluate → [export]

Stage i of the list is round i of the run. Under secure aggregation, statistics, train and evaluate take six rounds
each, or four with a helper: their legs. Export is asked of one site for the global model (`share`: its ONNX goes to
the registry; with a quorum, of the next one where it is lost or refuses) and, where personalised copies are served,
then of every site that has one, for its own copy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from archipel.federated.port import Algorithm, RoundFolded
from archipel.federated.secure.legs import SECURED, is_secure, legs_of_sum
from archipel.spec import (
    Blob,
    JobSpec,
    Kind,
    Leg,
    NamedModel,
    Part,
    RoundTask,
    SpecError,
    StateError,
    UnknownNameError,
    Update,
)
from archipel.spec.job import FederationSpec

PRELUDE: frozenset[Kind] = frozenset({"check", "statistics", "initialise"})
"""Stages in which a site that refuses leaves the run instead of stopping it."""
FOLDED: frozenset[Kind] = frozenset({"statistics", "initialise", "train", "evaluate"})
"""Stages whose updates the driver combines."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One round of a run, before it is known who takes part."""

    kind: Kind
    step: int = 0
    """As RoundTask.step."""
    own: bool = False
    """Export only: each site's personalised copy, not the global model."""
    leg: Leg | None = None
    """Under secure aggregation a sum takes a round for each leg."""
    attempt: int = 0
    """Of a secure sum; counts up when it is tried again with new keys."""

    @property
    def folds(self) -> bool:
        """Does the driver combine what this round brings?"""
        return self.kind in FOLDED and self.leg in {None, "release"}

    @property
    def sole(self) -> bool:
        """Is one answer all of it? The global model has one ONNX, whichever site writes it."""
        return self.kind == "export" and not self.own


class Findings(msgspec.Struct, kw_only=True):
    """What a run has produced so far; written by the coordinator alone."""

    sites: tuple[str, ...]
    """Sites of the run that have not been excluded, sorted."""
    most_rows: float = 1.0
    """Rows of the largest site, as the check counted them."""
    statistics: Blob | None = None
    manifest: str | None = None
    """Digest of the model's manifest, from initialise."""
    initial: Blob | None = None
    model: Blob | None = None
    state: Blob | None = None
    clip_norm: float | None = None
    """That of the next training round, with [privacy.central]."""
    alone: dict[str, Part] = msgspec.field(default_factory=dict)
    personalised: dict[str, Part] = msgspec.field(default_factory=dict)
    evaluations: list[tuple[int, Blob]] = msgspec.field(default_factory=list)
    """Training round and added sums of each intermediate evaluation."""
    sums: Blob | None = None
    onnx: Blob | None = None

    def keep(self, stage: Stage, answered: Mapping[str, Update], folded: RoundFolded | None) -> None:
        """Take in what a closed round brought, but for who was in it."""
        match stage.kind:
            case "check":
                found = (update.dataset for update in answered.values())
                self.most_rows = max((float(one.rows) for one in found if one is not None), default=1.0)
            case "alone" | "personalise" as kind:
                made = {site: update.parts["model"] for site, update in answered.items()}
                (self.alone if kind == "alone" else self.personalised).update(made)
            case "export" if stage.sole:
                self.onnx = next(iter(answered.values())).parts["onnx"].blob
        if folded is not None:
            self._keep_fold(stage, answered, folded)

    def _keep_fold(self, stage: Stage, answered: Mapping[str, Update], folded: RoundFolded) -> None:
        match stage.kind:
            case "statistics":
                self.statistics = folded.sums
            case "initialise":
                self.manifest = next(iter(answered.values())).parts["model"].manifest
                self.initial = self.model = required(folded.model, folded)
            case "train":
                self.model, self.state = required(folded.model, folded), folded.state
                self.clip_norm = folded.clip_norm or self.clip_norm
            case "evaluate" if stage.step:
                self.evaluations.append((stage.step, required(folded.sums, folded)))
            case "evaluate":
                self.sums = required(folded.sums, folded)

    def models(self, *, shared_with: str | None = None) -> tuple[NamedModel, ...]:
        """Return every final model under its name; `shared_with`: only those this site may see."""
        assert self.model is not None
        named = [NamedModel(name="federated", blob=self.model)]
        for site in self.sites:
            for kind, part in self._made_at(site):
                if part.shared or shared_with in {None, site}:
                    named.append(NamedModel(name=f"{kind}/{site}", blob=part.blob))
        return tuple(named)

    def models_at(self, site: str) -> tuple[NamedModel, ...]:
        """Return the models a site made by itself."""
        return tuple(NamedModel(name=f"{kind}/{site}", blob=part.blob) for kind, part in self._made_at(site))

    def _made_at(self, site: str) -> list[tuple[str, Part]]:
        kinds = (("alone", self.alone), ("personalised", self.personalised))
        return [(kind, parts[site]) for kind, parts in kinds if site in parts]


def stages_of(job: JobSpec, *, statistics: bool) -> tuple[Stage, ...]:
    """List the run's stages; `statistics`: does the task ask for them (known after the check)?"""
    stages = [Stage(kind="check")]
    if statistics:
        stages.append(Stage(kind="statistics"))
    stages.append(Stage(kind="initialise"))
    for step in range(1, job.federation.rounds + 1):
        stages.append(Stage(kind="train", step=step))
        if job.evaluation.every and step % job.evaluation.every == 0:
            stages.append(Stage(kind="evaluate", step=step))
    if job.evaluation.alone:
        stages.append(Stage(kind="alone"))
    if job.evaluation.personalise_epochs:
        stages.append(Stage(kind="personalise"))
    stages.append(Stage(kind="evaluate"))
    if job.deployment.serve != "none":
        stages.append(Stage(kind="export"))
    if job.deployment.serve == "personalised" and job.evaluation.personalise_epochs:
        stages.append(Stage(kind="export", own=True))
    if not is_secure(job):
        return tuple(stages)
    legs = legs_of_sum(job)
    return tuple(leg for stage in stages for leg in legs_of(stage, legs))


def legs_of(stage: Stage, legs: tuple[Leg, ...], attempt: int = 0) -> tuple[Stage, ...]:
    """Return the rounds a stage takes under secure aggregation, where a sum takes these `legs`."""
    if stage.kind not in SECURED:
        return (stage,)
    return tuple(msgspec.structs.replace(stage, leg=leg, attempt=attempt) for leg in legs)


def tried_again(stages: tuple[Stage, ...], number: int, legs: tuple[Leg, ...]) -> tuple[Stage, ...]:
    """Return the stages with another attempt at a secure sum in the place of the legs that follow leg `number`."""
    stage, place = stages[number], number + 1
    assert stage.leg is not None
    fresh = legs_of(msgspec.structs.replace(stage, leg=None), legs, stage.attempt + 1)
    left = len(legs) - 1 - legs.index(stage.leg)
    return (*stages[:place], *fresh, *stages[place + left :])


def cohort_of(stage: Stage, found: Findings, federation: FederationSpec, lost: frozenset[str]) -> tuple[str, ...]:
    """Return who is asked in a stage, where no participation is replayed."""
    if stage.kind == "train":
        return draw_cohort(federation, stage.step, found.sites)
    if stage.sole:
        return next(((site,) for site in found.sites if site not in lost), found.sites[:1])
    return tuple(found.personalised) if stage.kind == "export" else found.sites


def draw_cohort(federation: FederationSpec, step: int, sites: tuple[str, ...]) -> tuple[str, ...]:
    """Return the sorted cohort of training round `step`: ceil(cohort * N) of `sites`, drawn from (seed, step)."""
    size = share_of(federation.cohort, len(sites))
    if size == len(sites):
        return sites
    chosen = np.random.default_rng((federation.seed, step)).choice(len(sites), size=size, replace=False)
    return tuple(sites[index] for index in sorted(chosen))


def share_of(share: float, count: int) -> int:
    """Return ceil(share * count), at least 1, unmoved by rounding (7 % of 100 is 7, though 0.07 * 100 > 7)."""
    return max(1, math.ceil(share * count - 1e-9))


def checked_participation(
    participation: Sequence[Sequence[str]], job: JobSpec, sites: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """Return a recorded participation as sorted cohorts.

    Raises:
        SpecError: it does not cover the job's training rounds.
        UnknownNameError: it names a site that is not of the run.
    """
    cohorts = tuple(tuple(sorted(set(cohort))) for cohort in participation)
    if len(cohorts) != job.federation.rounds or not all(cohorts):
        raise SpecError(
            f"the participation covers {sum(map(bool, cohorts))} rounds, the job has {job.federation.rounds}",
            hint="take the participation that this job's run recorded",
        )
    strangers = set().union(*cohorts) - set(sites)
    if strangers:
        raise UnknownNameError.of("site in the participation:", min(strangers), sites)
    return cohorts


def task_of(blank: RoundTask, stage: Stage, site: str, found: Findings, algorithm: Algorithm) -> RoundTask:
    """Fill in `blank` (run, round, job and bundle set) for one site."""
    task = msgspec.structs.replace(blank, site=site, kind=stage.kind, step=stage.step, leg=stage.leg)
    if stage.leg not in {None, "compute"}:
        return task
    task = msgspec.structs.replace(task, statistics=found.statistics)
    cross = blank.job.evaluation.cross
    change: dict[str, Any] = {}
    match stage.kind:
        case "initialise":
            change = {"share": True}
        case "train":
            inputs = {} if found.state is None else dict.fromkeys(algorithm.sent, found.state)
            change = {
                "model": found.model,
                "variant": algorithm.variant(),
                "inputs": inputs,
                "clip_norm": found.clip_norm,
            }
        case "alone":
            change = {"model": found.initial, "share": cross}
        case "personalise":
            change = {"model": found.model, "share": cross}
        case "evaluate":
            change = {"models": _scored(stage, site, found, cross=cross)}
        case "export":
            model = found.personalised[site].blob if stage.own else found.model
            change = {"model": model, "share": not stage.own}
    return msgspec.structs.replace(task, **change)


def _scored(stage: Stage, site: str, found: Findings, *, cross: bool) -> tuple[NamedModel, ...]:
    assert found.model is not None
    federated = NamedModel(name="federated", blob=found.model)
    if stage.step:
        return (federated,)
    return found.models(shared_with=site) if cross else (federated, *found.models_at(site))


def required(blob: Blob | None, folded: RoundFolded) -> Blob:
    """Return what a fold must have written."""
    if blob is None:
        raise StateError(f"round {folded.round} was folded without a result", hint="report the blob the fold wrote")
    return blob
