"""Bytes of a run, by kind of round.

Counting rules: a site fetches each blob once (the bundle, the statistics, the model of each training round); blobs
are counted whole, the messages around them (a few kB a task) are not. Every site sends its first model, though
control keeps one copy.
"""

from __future__ import annotations

import math

import msgspec

from archipel.spec import JobSpec, Manifest, PhaseBytes


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the blobs a run moves."""

    model_bytes: int
    """0: not known yet."""
    manifest: Manifest | None = None
    """How the model's tensors lie; None: not known."""
    bundle_bytes: int = 0
    statistics_bytes: int = 0
    """Sums of one site; 0: the task asks for none."""
    sums_bytes: int = 4096
    """Evaluation sums of one model at one site."""
    onnx_bytes: int | None = None
    """None: about as large as the model."""


def cohort_size(job: JobSpec, sites: int) -> int:
    """Return ceil(cohort * sites), unmoved by rounding."""
    return max(1, math.ceil(job.federation.cohort * sites - 1e-9))


def traffic_of(job: JobSpec, sites: int, sizes: Sizes, *, update_bytes: float | None = None) -> tuple[PhaseBytes, ...]:
    """Return what each kind of round moves, in the order of the run.

    `update_bytes` is the mean size of a site's update, where the job compresses them; None: the model's.
    """
    model, cohort = sizes.model_bytes, cohort_size(job, sites)
    rounds, evaluation = job.federation.rounds, job.evaluation
    scored = rounds // evaluation.every if evaluation.every else 0
    after_last = bool(scored) and rounds % evaluation.every == 0
    phases = [_phase("check", 1, sites * sizes.bundle_bytes, 0)]
    if sizes.statistics_bytes:
        phases.append(_phase("statistics", 1, 0, sites * sizes.statistics_bytes))
    phases.append(_phase("initialise", 1, sites * sizes.statistics_bytes, sites * model))
    # A cohort whose sites just scored the same model has it already.
    fetching = rounds - (scored - after_last)
    extra = model if job.federation.algorithm == "scaffold" else 0
    down = cohort * (fetching * model + (rounds - 1) * extra)
    update = model if update_bytes is None else update_bytes
    phases.append(_phase("train", rounds, down, round(cohort * rounds * (update + extra))))
    shown = sites * model if evaluation.cross else 0
    if evaluation.alone:
        phases.append(_phase("alone", 1, (sites - cohort) * model, shown))
    final_here = after_last
    if evaluation.personalise_epochs:
        phases.append(_phase("personalise", 1, 0 if final_here else sites * model, shown))
        final_here = True
    phases.append(_evaluation(job, sites, sizes, scored, final_here=final_here))
    if job.deployment.serve != "none":
        onnx = model if sizes.onnx_bytes is None else sizes.onnx_bytes
        takers = 0 if job.deployment.serve == "personalised" and evaluation.personalise_epochs else sites
        own = 1 if not takers else 0
        phases.append(_phase("export", 1 + own, takers * onnx, onnx))
    return tuple(phases)


def _evaluation(job: JobSpec, sites: int, sizes: Sizes, scored: int, *, final_here: bool) -> PhaseBytes:
    kinds = int(job.evaluation.alone) + int(bool(job.evaluation.personalise_epochs))
    others = sites * (sites - 1) * kinds * sizes.model_bytes if job.evaluation.cross else 0
    down = sites * sizes.model_bytes * (scored + (0 if final_here else 1)) + others
    models = 1 + kinds * (sites if job.evaluation.cross else 1)
    return _phase("evaluate", scored + 1, down, sites * sizes.sums_bytes * (scored + models))


def _phase(kind: str, rounds: int, down: int, up: int) -> PhaseBytes:
    return msgspec.convert({"kind": kind, "rounds": rounds, "down_bytes": down, "up_bytes": up}, PhaseBytes)
