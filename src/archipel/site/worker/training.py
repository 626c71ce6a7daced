"""Local training in its three forms: a round of the federation, the whole budget alone, fine-tuning of the final model.

All three draw from the same streams (see schedule.py): training alone is what the federation would do with one site.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from archipel.federated.local_variant import LocalVariant
from archipel.federated.private_mean import WITHIN_CLIP
from archipel.security.privacy import NoiseStream, clipped, private_steps
from archipel.site.worker.memory import CONTROL
from archipel.site.worker.schedule import learning_rate, stream
from archipel.spec import RoundTask
from archipel.spec.privacy import ExamplePrivacy, LocalPrivacy
from archipel.tasks.port import Adapter, LocalPlan, PrivateSteps, Progress, Trained, Vector, Weights


class TrainedRound(msgspec.Struct, frozen=True, kw_only=True):
    """What a round of training came to."""

    parts: dict[str, Vector]
    """Vectors of the update, "delta" among them."""
    state: dict[str, Vector]
    """The site's next state."""
    metrics: dict[str, float]
    within_clip: bool = True
    """Was the delta within the task's clip norm, before it was scaled down to it?"""


def train_round(  # noqa: PLR0917 - each is a different thing the round needs
    adapter: Adapter,
    task: RoundTask,
    weights: Weights,
    inputs: Mapping[str, Vector],
    state: Mapping[str, Vector],
    progress: Progress,
    secret: bytes | None = None,
) -> TrainedRound:
    """Train one round, as the task's algorithm asks; `inputs` came with the task, `state` was kept here.

    `secret` is what the noise of [privacy.examples] or [privacy.local] follows from: this task's alone.
    """
    local = LocalVariant.of(task.variant, control=inputs.get(CONTROL), own=state.get(CONTROL))
    plain = _plan(task, task.step)
    plan = msgspec.structs.replace(plain, proximal=local.proximal, correction=local.correction)
    examples = task.job.privacy.examples
    if examples is not None and secret is not None:
        plan = msgspec.structs.replace(plan, private=_private_steps(examples, plan.epochs, secret))
    trained = adapter.train(weights, plan, progress)
    outcome = local.after(trained.delta, steps=trained.steps, learning_rate=plan.learning_rate)
    kept = {} if outcome.own is None else {CONTROL: outcome.own}
    delta, within = trained.delta, True
    if (bound := clip_norm_of(task)) is not None:
        delta, within = clipped(delta, bound)
    if task.job.privacy.local is not None and secret is not None:
        delta = _noisy(task.job.privacy.local, delta, secret)
    parts = {"delta": delta, **outcome.parts}
    return TrainedRound(parts=parts, state=kept, metrics=_metrics(trained), within_clip=within)


def clip_norm_of(task: RoundTask) -> float | None:
    """Return the largest norm a delta may leave with; the task's own word counts where the job says it adapts."""
    central, local = task.job.privacy.central, task.job.privacy.local
    if central is None:
        return None if local is None else local.clip_norm
    return central.clip_norm if central.adaptive is None else task.clip_norm or central.clip_norm


def disclosed_metrics(task: RoundTask, trained: TrainedRound) -> dict[str, float]:
    """Return what an update may say of its training: with differential privacy no sum over rows that has no noise."""
    if task.job.privacy.central is not None:
        return {WITHIN_CLIP: float(trained.within_clip)}
    return {} if task.job.privacy.is_noisy else trained.metrics


def train_alone(
    adapter: Adapter, task: RoundTask, weights: Weights, progress: Progress
) -> tuple[Weights, dict[str, float]]:
    """Spend the whole budget of rounds at this site, from `weights`; return the last weights."""
    rounds = task.job.federation.rounds
    metrics: dict[str, float] = {}
    for step in range(1, rounds + 1):
        trained = adapter.train(weights, _plan(task, step), _share(progress, step - 1, rounds))
        weights = Weights(manifest=weights.manifest, vector=weights.vector + trained.delta)
        metrics = _metrics(trained)
    return weights, metrics


def train_personalised(
    adapter: Adapter, task: RoundTask, weights: Weights, progress: Progress
) -> tuple[Weights, dict[str, float]]:
    """Fine-tune `weights` here; plain local training, in the stream after the last round's."""
    evaluation, federation = task.job.evaluation, task.job.federation
    plan = LocalPlan(
        local=federation.local,
        learning_rate=evaluation.personalise_learning_rate or federation.local.learning_rate,
        epochs=max(1, evaluation.personalise_epochs),
        seed=stream(federation.seed, federation.rounds + 1, task.site),
    )
    trained = adapter.train(weights, plan, progress)
    return Weights(manifest=weights.manifest, vector=weights.vector + trained.delta), _metrics(trained)


def _plan(task: RoundTask, step: int) -> LocalPlan:
    federation = task.job.federation
    return LocalPlan(
        local=federation.local,
        learning_rate=learning_rate(federation.local, step, federation.rounds),
        epochs=federation.local.epochs,
        seed=stream(federation.seed, step, task.site),
    )


def _private_steps(examples: ExamplePrivacy, epochs: int, secret: bytes) -> PrivateSteps:
    return PrivateSteps(
        clip_norm=examples.clip_norm,
        noise_multiplier=examples.noise_multiplier,
        sampling_rate=examples.sampling_rate,
        steps=private_steps(examples.sampling_rate, epochs),
        secret=secret,
    )


def _noisy(local: LocalPrivacy, delta: Vector, secret: bytes) -> Vector:
    noise = NoiseStream(secret, "update")
    deviation = local.noise_multiplier * local.clip_norm
    return noise.add(delta.astype(np.float64), deviation=deviation).astype(delta.dtype)


def _metrics(trained: Trained) -> dict[str, float]:
    return {
        "examples": float(trained.examples),
        "steps": float(trained.steps),
        "loss_sum": float(trained.loss_sum),
        "loss_examples": float(trained.loss_examples),
    }


def _share(progress: Progress, index: int, count: int) -> Progress:
    """Return progress within piece `index` of `count`."""
    return lambda done: progress((index + done) / count)
