"""Rounds over a population of virtual clients, in this process: draw a cohort, train it, fold it, score the model.

    run = VirtualRun(job, adapter, population, folder)
    for record in run.rounds(executor):
        print(record.step, record.loss)
    run.figures("test")

Clients' plans, the order of additions and the server's step are those of a live run over sites with these names and
rows; with the executor `loop` the model is the same, bit for bit. An update is added as soon as it is there, so memory
grows neither with the cohort nor with the population.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from archipel.federated.algorithms import algorithm_of
from archipel.federated.fit import require_fit
from archipel.federated.fold import normalised
from archipel.federated.local_variant import LocalVariant
from archipel.federated.port import Block, RoundFacts
from archipel.federated.running_mean import RunningMean
from archipel.simulation.checkpoint import Checkpoints, Standing
from archipel.simulation.controls import Controls
from archipel.simulation.population.port import Population, draw_cohort
from archipel.site.worker.schedule import learning_rate, stream
from archipel.spec import JobSpec, NonFiniteError, SpecError, pack
from archipel.spec.job import SimulationSpec
from archipel.spec.tensors import views
from archipel.tasks.metrics import summarise
from archipel.tasks.port import Adapter, Executor, LocalPlan, MeanExecutor, Trained, Weights


class RoundRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one round came to."""

    step: int
    """From 1."""
    clients: int
    examples: int
    """Rows of the clients, added."""
    steps: int
    """Optimizer steps, added over clients."""
    loss: float | None
    """Mean over the examples of the clients' last epoch; None: no client has a row."""
    seconds: float
    """Wall time, scoring included."""
    figures: dict[str, float] | None = None
    """On the validation rows, where [evaluation] every asks for them."""


class VirtualRun:
    """One job over one population."""

    def __init__(
        self,
        job: JobSpec,
        adapter: Adapter,
        population: Population,
        controls: Path,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """Make the first model, or go on from where the last checkpoint is.

        `controls` is a folder of its own for what clients remember (SCAFFOLD).

        Raises:
            SpecError: the job has no [simulation].
            TaskError: the job's algorithm cannot work with this model.
        """
        self._job = job
        self._spec = simulation_of(job)
        self._adapter = adapter
        self._population = population
        self._algorithm = algorithm_of(job.federation)
        first = adapter.initial(job.federation.seed)
        require_fit(job.federation, buffers=first.buffers, multipliers=first.multipliers)
        self.weights = Weights(manifest=first.manifest, vector=first.vector)
        self._state: dict[str, Block] = {name: np.zeros_like(first.vector) for name in self._algorithm.state}
        parts = (*self._algorithm.weighted, *self._algorithm.uniform)
        self._means = {name: RunningMean(first.vector.size, first.vector.dtype) for name in parts}
        self._checkpoints = checkpoints
        standing = None if checkpoints is None else checkpoints.read()
        self.step = 0 if standing is None else standing.step
        """The last round that is in the model."""
        self.executor = None if standing is None else standing.executor
        """By which the last round was computed; None: there was none yet."""
        if standing is not None:
            self.weights = Weights(manifest=first.manifest, vector=standing.vector)
            self._state = dict(standing.state)
        self._controls = Controls(controls, self.step)

    def rounds(self, executor: Executor) -> Iterator[RoundRecord]:
        """Carry out the rounds that are left of those the job asks for; see `keep`.

        Raises:
            NonFiniteError: a client's loss or update is not finite; names the client.
        """
        for step in range(self.step + 1, self._job.federation.rounds + 1):
            record = self._round(executor, step)
            self.step, self.executor = step, executor.name
            yield record

    def keep(self) -> None:
        """Go on from here after an interruption; called when all else that the last round gave is safe.

        Raises:
            StorageFullError: the disk is full.
        """
        if self._checkpoints is not None and self.executor is not None:
            where = Standing(step=self.step, executor=self.executor, vector=self.weights.vector, state=self._state)
            if self._checkpoints.offer(where):
                self._controls.settle()

    def plans(self, step: int) -> list[LocalPlan]:
        """Draw the cohort of a round, and say what each of its clients does."""
        return [
            self._plan(client, step)
            for client in draw_cohort(self._population, self._spec.cohort, self._job.federation.seed, step)
        ]

    def packed(self) -> bytes:
        """Return the model as a safetensors file."""
        return pack(views(self.weights.vector, self.weights.manifest))

    def figures(self, part: str) -> dict[str, float]:
        """Score the model on a part of the split ("test" or "validation")."""
        return summarise(self._adapter.evaluate(self.weights, part))

    def _round(self, executor: Executor, step: int) -> RoundRecord:
        began = time.monotonic()
        plans = self.plans(step)
        sizes = [0 if plan.rows is None else len(plan.rows) for plan in plans]
        by_rows = self._job.federation.weighting == "examples"
        shares = normalised([float(size) if by_rows else 1.0 for size in sizes])
        if isinstance(executor, MeanExecutor) and tuple(self._means) == ("delta",):
            mean = executor.train_mean(self.weights, plans, shares)
            self._means["delta"].add(mean.delta, 1.0)
            steps, loss, count = mean.steps, mean.loss_sum, mean.loss_examples
        else:
            steps, loss, count = self._one_by_one(executor, plans, shares, step)
        self._apply(RoundFacts(step=step, cohort=len(plans), population=self._population.count))
        if self._checkpoints is None:
            self._controls.settle()
        every = self._job.evaluation.every
        return RoundRecord(
            step=step,
            clients=len(plans),
            examples=sum(sizes),
            steps=steps,
            loss=loss / count if count else None,
            figures=self.figures("validation") if every and step % every == 0 else None,
            seconds=time.monotonic() - began,
        )

    def _one_by_one(
        self, executor: Executor, plans: Sequence[LocalPlan], shares: Sequence[float], step: int
    ) -> tuple[int, float, int]:
        """Add each client's update as it comes; return steps, the sum of losses, and over how many rows it is."""
        steps, loss, count = 0, 0.0, 0
        trained = executor.train(self.weights, plans)
        for plan, share, one in zip(plans, shares, trained, strict=True):
            self._add(self._after(plan, one, step), share, 1.0 / len(plans))
            steps, loss, count = steps + one.steps, loss + one.loss_sum, count + one.loss_examples
        return steps, loss, count

    def _plan(self, client: int, step: int) -> LocalPlan:
        federation, name = self._job.federation, self._population.name(client)
        variant = self._variant(name, step)
        return LocalPlan(
            local=federation.local,
            learning_rate=learning_rate(federation.local, step, federation.rounds),
            epochs=federation.local.epochs,
            seed=stream(federation.seed, step, name),
            client=name,
            rows=self._population.rows(client),
            proximal=variant.proximal,
            correction=variant.correction,
        )

    def _variant(self, name: str, step: int) -> LocalVariant:
        sent = self._state.get("control") if step > 1 and "control" in self._algorithm.sent else None
        return LocalVariant.of(self._algorithm.variant(), control=sent, own=self._controls.get(name))

    def _after(self, plan: LocalPlan, trained: Trained, step: int) -> dict[str, Block]:
        """Return the parts of a client's update, and keep what it remembers."""
        variant = self._variant(plan.client, step)
        outcome = variant.after(trained.delta, steps=trained.steps, learning_rate=plan.learning_rate)
        if outcome.own is not None:
            self._controls.put(plan.client, outcome.own, step)
        return {"delta": trained.delta, **outcome.parts}

    def _add(self, parts: Mapping[str, Block], weighted: float, uniform: float) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            for name in self._algorithm.weighted:
                self._means[name].add(parts[name], weighted)
            for name in self._algorithm.uniform:
                self._means[name].add(parts[name], uniform)

    def _apply(self, facts: RoundFacts) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            means = {name: mean.take() for name, mean in self._means.items()}
            vector, self._state = self._algorithm.apply(facts, self.weights.vector, means, self._state)
        if not np.isfinite(vector).all():
            raise NonFiniteError(
                f"{self._algorithm.name} made a model with NaN or infinity in round {facts.step}",
                hint="lower the learning rates, the clients' or the server's",
            )
        self.weights = Weights(manifest=self.weights.manifest, vector=vector)


def simulation_of(job: JobSpec) -> SimulationSpec:
    """Return the job's [simulation].

    Raises:
        SpecError: it has none.
    """
    if job.simulation is None:
        hint = "add the table [simulation] with clients, cohort and partition"
        raise SpecError(f"job {job.name!r} says nothing of virtual clients", hint=hint)
    return job.simulation
