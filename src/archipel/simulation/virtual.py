"""Rounds over a population of virtual clients, in this process: draw a cohort, train it, fold it, score the model.

    run = VirtualRun(job, adapter, population, folder)
    for record in run.rounds(executor):
        print(record.step, record.loss)
    run.figures("test")

Clients' plans, the order of additions and the server's step are those of a live run over sites with these names and
rows; with the executor `loop` the model is the same, bit for bit. An update is added as soon as it is there, or lies in
a file until a robust rule has all, so memory grows neither with the cohort nor with the population. Who is folded when
is the timeline's business (`clock`); models that clients still train from are kept.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from archipel.data.compression.choice import common_codec
from archipel.data.compression.port import decoded, encoded_bytes
from archipel.federated.algorithms import algorithm_of
from archipel.federated.clashes import require_compressed, require_simulated
from archipel.federated.contribution import normalised
from archipel.federated.fit import require_fit
from archipel.federated.fold import fold_arrays
from archipel.federated.local_variant import LocalVariant
from archipel.federated.port import Block, RoundFacts
from archipel.federated.private_mean import SUM, Noising, PrivateMean
from archipel.federated.robust.robust import robust_of
from archipel.federated.running_mean import RunningMean
from archipel.security.privacy import clipped, fresh_secret, kept_secret, releases_of, require_private_fit
from archipel.simulation.checkpoint import Checkpoints, Standing
from archipel.simulation.clock.devices import Devices, Load
from archipel.simulation.clock.fedbuff import staleness_scale
from archipel.simulation.clock.opening import check_buffers, check_time, open_timeline, simulation_of
from archipel.simulation.clock.port import Assignment, Closed, Moment
from archipel.simulation.clock.report import RoundTime
from archipel.simulation.controls import Controls
from archipel.simulation.gathering import Gathering
from archipel.simulation.population.port import Population, draw_cohort, part_of
from archipel.site.worker.compressing import compress
from archipel.site.worker.schedule import learning_rate, stream
from archipel.spec import JobSpec, NonFiniteError, SpecError, pack
from archipel.spec.tensors import views
from archipel.spec.timing import FedBuff, Partial
from archipel.tasks.metrics import summarise
from archipel.tasks.port import Adapter, Executor, LocalPlan, MeanExecutor, Trained, TrainedMean, Weights


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
    simulated: RoundTime | msgspec.UnsetType = msgspec.UNSET
    """Virtual time, where the job has [simulation.time]."""


class VirtualRun:
    """One job over one population."""

    def __init__(  # noqa: PLR0917 - each is a different thing
        self,
        job: JobSpec,
        adapter: Adapter,
        population: Population,
        controls: Path,
        checkpoints: Checkpoints | None = None,
        devices: Devices | None = None,
        noise_key: Path | None = None,
    ) -> None:
        """Make the first model, or go on from where the last checkpoint is.

        `controls` is a folder of its own for what clients remember (SCAFFOLD; what compression loses lies beside it);
        `devices` is what `open_devices` made of the job; `noise_key` a file for the secret that noise follows from,
        made anew where the run begins anew.

        Raises:
            SpecError: the job has no [simulation], its mode cannot go with its algorithm, or its cohort is too small
                for its robust rule.
            TaskError: the job's algorithm cannot work with this model.
        """
        check_time(job)
        require_private_fit(job, virtual=True)
        if job.privacy.is_noisy_at_sites:
            hint = "take [privacy.central], or simulate the job's sites without [simulation]"
            raise SpecError("noise that sites add has no virtual clients: it follows from a site's own key", hint=hint)
        self._job = job
        self._spec = simulation_of(job)
        self._adapter = adapter
        self._population = population
        require_simulated(job)
        require_compressed(job)
        self._codec = common_codec(job.federation.compression)
        self._algorithm = algorithm_of(job.federation)
        self._robust = robust_of(job.federation)
        if self._robust is not None:
            self._robust.require(min(self._spec.cohort, population.count))
        first = adapter.initial(job.federation.seed)
        central = job.privacy.central
        require_fit(job.federation, buffers=first.buffers, multipliers=first.multipliers, private=central is not None)
        check_buffers(job, first.buffers)
        self.weights = Weights(manifest=first.manifest, vector=first.vector)
        self._state: dict[str, Block] = {name: np.zeros_like(first.vector) for name in self._algorithm.state}
        parts = (*self._algorithm.weighted, *self._algorithm.uniform)
        summed = first.vector.dtype if central is None else SUM
        self._means = {name: RunningMean(first.vector.size, summed) for name in parts}
        self._folder = controls.parent
        self._gathering: Gathering | None = None
        self._models: dict[int, Block] = {}
        self._checkpoints = checkpoints
        standing = None if checkpoints is None else checkpoints.read()
        self.step = 0 if standing is None else standing.step
        """The last round that is in the model."""
        self.executor = None if standing is None else standing.executor
        """By which the last round was computed; None: there was none yet."""
        if standing is not None:
            self.weights = Weights(manifest=first.manifest, vector=standing.vector)
            self._state = dict(standing.state)
            self._models = dict(standing.models)
        self._clip_norm = None if central is None else central.clip_norm
        if standing is not None and standing.clip_norm is not None:
            self._clip_norm = standing.clip_norm
        releases = releases_of(job, clients=population.count)
        self._bands = 1 if releases is None else releases.bands
        self._noising = Noising.of(job, lambda: _secret(noise_key, anew=standing is None))
        self._controls = Controls(controls, self.step)
        self._residues = Controls(controls.parent / "residues", self.step)
        load = Load(
            epochs=job.federation.local.epochs,
            down_bytes=first.vector.nbytes * (1 + len(self._algorithm.sent)),
            up_bytes=encoded_bytes(self._codec, first.manifest, first.vector.nbytes) * len(parts),
        )
        moment = Moment() if standing is None else standing.moment
        self._timeline = open_timeline(job, population, devices, load, moment)

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
            where = Standing(
                step=self.step,
                executor=self.executor,
                vector=self.weights.vector,
                state=self._state,
                models=self._models,
                moment=self._timeline.moment,
                clip_norm=self._clip_norm,
            )
            if self._checkpoints.offer(where):
                self._controls.settle()
                self._residues.settle()

    def plans(self, step: int) -> list[LocalPlan]:
        """Draw the cohort of a round, and say what each of its clients does."""
        return [
            self._plan(client, step)
            for client in draw_cohort(
                self._population, self._spec.cohort, self._job.federation.seed, step, sampling=self._spec.sampling
            )
        ]

    @property
    def clip_norm(self) -> float | None:
        """Of the next round, with [privacy.central]."""
        return self._clip_norm

    def packed(self) -> bytes:
        """Return the model as a safetensors file."""
        return pack(views(self.weights.vector, self.weights.manifest))

    def figures(self, part: str) -> dict[str, float]:
        """Score the model on a part of the split ("test" or "validation")."""
        return summarise(self._adapter.evaluate(self.weights, part))

    def _round(self, executor: Executor, step: int) -> RoundRecord:
        began = time.monotonic()
        closed = self._timeline.close(step)
        sums = _Sums()
        private = None if self._noising is None else self._private_mean(self._noising, step)
        # With noise, a round of nobody is a release like any other: that nobody came is nobody's to know.
        if closed.folded or private is not None:
            self._models[step] = self.weights.vector
            sums = self._train(executor, closed, private)
            self._apply(closed, private)
        self._models = {one.step: self._models[one.step] for one in self._timeline.moment.flying}
        if self._checkpoints is None:
            self._controls.settle()
            self._residues.settle()
        every = self._job.evaluation.every
        return RoundRecord(
            step=step,
            clients=len(closed.folded),
            examples=sums.rows,
            steps=sums.steps,
            loss=sums.loss / sums.count if sums.count else None,
            figures=self.figures("validation") if every and step % every == 0 else None,
            simulated=msgspec.UNSET if self._spec.time is None else RoundTime.of(closed),
            seconds=time.monotonic() - began,
        )

    def _train(self, executor: Executor, closed: Closed, private: PrivateMean | None) -> _Sums:
        """Add up the updates of a round, those from one model after those from another."""
        plans = [self._plan(one.client, one.step, one.again, self._part(one)) for one in closed.folded]
        shares = [private.share] * len(plans) if private is not None else self._shares(closed, plans)
        if self._robust is not None:
            like = self.weights.vector
            self._gathering = Gathering(self._folder, clients=len(plans), parts=tuple(self._means), like=like)
        within: list[bool] = []
        losses: dict[int, float] = {}
        sums = _Sums()
        work = zip(closed.folded, plans, shares, strict=True)
        for step, group in itertools.groupby(work, key=lambda item: item[0].step):
            given, some, parts = zip(*group, strict=True)
            weights = Weights(manifest=self.weights.manifest, vector=self._models[step])
            singly = any(one is not None for one in (self._gathering, private, self._codec)) or self._timeline.listens
            if not singly and tuple(self._means) == ("delta",) and isinstance(executor, MeanExecutor):
                mean = executor.train_mean(weights, some, parts)
                self._means["delta"].add(mean.delta, 1.0)
                sums.add(mean)
                continue
            for work_of, plan, share, one in zip(given, some, parts, executor.train(weights, some), strict=True):
                arrived = self._sent(plan, self._clipped(self._after(plan, one, step), within), closed.step)
                self._add(plan, arrived, share, 1.0 / len(plans))
                sums.add(one)
                losses[work_of.client] = one.loss_sum / max(one.loss_examples, 1)
        self._timeline.hear(closed.step, losses)
        if private is not None:
            self._clip_norm = private.next_clip(within) or self._clip_norm
        sums.rows = sum(map(_size, plans))
        return sums

    def _private_mean(self, noising: Noising, step: int) -> PrivateMean:
        assert self._clip_norm is not None
        return PrivateMean(
            noising.central,
            noising.secret,
            step=step,
            cohort=min(self._spec.cohort, self._population.count),
            clip_norm=self._clip_norm,
            bands=self._bands,
        )

    def _clipped(self, parts: dict[str, Block], within: list[bool]) -> dict[str, Block]:
        """Return a client's update as it leaves it, and note whether it was within the clip norm."""
        if self._clip_norm is None:
            return parts
        delta, was_within = clipped(parts["delta"], self._clip_norm)
        within.append(was_within)
        return {**parts, "delta": delta}

    def _sent(self, plan: LocalPlan, parts: dict[str, Block], step: int) -> dict[str, Block]:
        """Return a client's update as it arrives, where it is compressed on its way, and keep what was lost."""
        if self._codec is None:
            return parts
        [(name, delta)] = parts.items()
        model, residue = self.weights.manifest, self._residues.get(plan.client)
        sent = compress(self._codec, delta, model, plan.seed, residue=residue, bound=self._clip_norm)
        if sent.residue is not None:
            self._residues.put(plan.client, sent.residue, step)
        return {name: decoded(self._codec, sent.tensors, model, delta)}

    def _shares(self, closed: Closed, plans: Sequence[LocalPlan]) -> list[float]:
        """Return what each update counts, late ones scaled by their age, FedBuff's by the server's rate too."""
        by_rows, mode = self._job.federation.weighting == "examples", self._spec.time
        shares = normalised([float(_size(plan)) if by_rows else 1.0 for plan in plans])
        rate = mode.server_learning_rate if isinstance(mode, FedBuff) else 1.0
        scales = [rate * staleness_scale(closed.step - one.step) for one in closed.folded]
        return [share * scale for share, scale in zip(shares, scales, strict=True)]

    def _part(self, one: Assignment) -> int | None:
        """Return on how many of its rows a client trains; None: on all."""
        return one.rows if isinstance(self._spec.time, Partial) else None

    def _plan(self, client: int, step: int, again: int = 0, part: int | None = None) -> LocalPlan:
        federation, name = self._job.federation, self._population.name(client)
        variant = self._variant(name, step)
        entropy = stream(federation.seed, step, name)
        return LocalPlan(
            local=federation.local,
            learning_rate=learning_rate(federation.local, step, federation.rounds),
            epochs=federation.local.epochs,
            seed=(*entropy, again) if again else entropy,
            client=name,
            rows=part_of(self._population.rows(client), part, entropy),
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

    def _add(self, plan: LocalPlan, parts: Mapping[str, Block], weighted: float, uniform: float) -> None:
        if self._gathering is not None:
            self._gathering.add(plan.client, weighted, parts)
            return
        with np.errstate(over="ignore", invalid="ignore"):
            for name in self._algorithm.weighted:
                self._means[name].add(parts[name], weighted)
            for name in self._algorithm.uniform:
                self._means[name].add(parts[name], uniform)

    def _apply(self, closed: Closed, private: PrivateMean | None) -> None:
        # Algorithms begin their state at step 1, which is the first model and not a round that nobody made.
        facts = RoundFacts(step=closed.made, cohort=len(closed.folded), population=self._population.count)
        vector = self._robustly(facts) if self._gathering is not None else self._by_mean(facts, private)
        if not np.isfinite(vector).all():
            raise NonFiniteError(
                f"{self._algorithm.name} made a model with NaN or infinity in round {closed.step}",
                hint="lower the learning rates, the clients' or the server's",
            )
        self.weights = Weights(manifest=self.weights.manifest, vector=vector)

    def _by_mean(self, facts: RoundFacts, private: PrivateMean | None) -> Block:
        with np.errstate(over="ignore", invalid="ignore"):
            means = {name: mean.take() for name, mean in self._means.items()}
            if private is not None:
                dtype = self.weights.vector.dtype
                means = {name: private.noisy(mean).astype(dtype) for name, mean in means.items()}
            vector, self._state = self._algorithm.apply(facts, self.weights.vector, means, self._state)
        return vector

    def _robustly(self, facts: RoundFacts) -> Block:
        assert self._gathering is not None
        updates, self._gathering = self._gathering.updates, None
        vector, self._state = fold_arrays(
            self._algorithm, facts, updates, self.weights.vector, self._state, robust=self._robust
        )
        return vector


def _secret(path: Path | None, *, anew: bool) -> bytes:
    """Return the secret of a simulation's noise: kept while it can go on, fresh where it begins."""
    if path is None:
        return fresh_secret()
    if anew:
        path.unlink(missing_ok=True)
    return kept_secret(path)


class _Sums:
    """What is added up over the clients of a round."""

    def __init__(self) -> None:
        self.rows = 0
        self.steps = 0
        self.loss = 0.0
        self.count = 0
        """Examples the losses are of."""

    def add(self, one: Trained | TrainedMean) -> None:
        """Add a client's figures, or several clients'."""
        self.steps += one.steps
        self.loss += one.loss_sum
        self.count += one.loss_examples


def _size(plan: LocalPlan) -> int:
    return 0 if plan.rows is None else len(plan.rows)
