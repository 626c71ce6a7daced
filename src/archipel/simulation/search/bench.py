"""Makes trials, in a worker: the job of a trial in, its scores on the validation rows out.

bench = Bench(opening)
bench.open()                                             # by which executor trials are computed, and why
bench.make(job, lambda step, value, is_last: True)       # the value at the end
"""

from __future__ import annotations

import inspect
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from archipel.simulation.choosing import Choice, choose_executor
from archipel.simulation.clock.opening import open_devices, simulation_of
from archipel.simulation.opening import open_here
from archipel.simulation.population.partitions import open_population
from archipel.simulation.search.messages import Ended, Opened, Opening
from archipel.simulation.spread.messages import Failure
from archipel.simulation.virtual import VirtualRun
from archipel.spec import ArchipelError, JobSpec, NonFiniteError, TaskError, UnknownNameError
from archipel.spec.job import EvaluationSpec, FederationSpec
from archipel.tasks.executors import LOOP
from archipel.tasks.load import load_object
from archipel.tasks.port import Adapter, Executor

Told = Callable[[int, float, bool], bool]
"""Hears of a round, its score and whether it is the last; says whether the trial goes on."""
NO_FIGURES = {"examples", "smallest_class"}


class Bench:
    """One worker's."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._kept: tuple[JobSpec, Adapter] | None = None
        self._place = Path(opening.place) / f"controls-{os.getpid()}"

    def open(self) -> Opened:
        """Find out what can be found out before the first trial is made; what cannot go well comes as a failure."""
        try:
            self._require_options()
            run = self._run(self._opening.job)
            self._require_metric(run)
            choice = self._choose(run, self._opening.job)
        except ArchipelError as error:
            return Opened(failure=Failure.of(error))
        return Opened(executor=choice.executor.name, why=choice.why)

    def make(self, job: JobSpec, told: Told) -> Ended:
        """Make a trial."""
        began = time.monotonic()
        ended = Ended(seconds=0.0)
        try:
            run = self._run(job)
            executor = self._choose(run, job).executor
            ended = Ended(seconds=0.0, executor=executor.name)
            ended = structs.replace(ended, value=self._value(run, executor, job.federation.rounds, told))
        except NonFiniteError as error:
            ended = structs.replace(ended, diverged=error.message)
        except ArchipelError as error:
            ended = structs.replace(ended, failure=Failure.of(error))
        finally:
            shutil.rmtree(self._place, ignore_errors=True)
        return structs.replace(ended, seconds=time.monotonic() - began)

    def _value(self, run: VirtualRun, executor: Executor, last: int, told: Told) -> float | None:
        """Return the metric after the last round; None: the trial was ended before."""
        value: float | None = None
        for record in run.rounds(executor):
            figures = record.figures or (run.figures("validation") if record.step == last else None)
            if figures is None:
                continue
            value = self._finite(figures, record.step)
            if not told(record.step, value, record.step == last):
                return None
        return value

    def _finite(self, figures: dict[str, float], step: int) -> float:
        metric = self._opening.metric
        value = figures.get(metric, math.nan)
        if not math.isfinite(value):
            raise NonFiniteError(f"{metric} is {value} after round {step}", hint="search over smaller learning rates")
        return value

    def _run(self, job: JobSpec) -> VirtualRun:
        adapter = self._adapter(job)
        population = open_population(simulation_of(job), job.federation.seed, adapter.split.train)
        devices = open_devices(job, population, Path(self._opening.folder))
        return VirtualRun(job, adapter, population, self._place, devices=devices)

    def _choose(self, run: VirtualRun, job: JobSpec) -> Choice:
        """Take the search's executor, or `loop` for a model that it cannot compute."""
        adapter, plans = self._adapter(job), run.plans(1)
        try:
            return choose_executor(self._opening.executor, adapter, run.weights, plans)
        except TaskError:
            if self._opening.executor == LOOP:
                raise
            return choose_executor(LOOP, adapter, run.weights, plans)

    def _adapter(self, job: JobSpec) -> Adapter:
        """Open the task over the data set, or take the last trial's where only its training differs."""
        like = structs.replace(
            job,
            federation=FederationSpec(seed=job.federation.seed),
            evaluation=EvaluationSpec(),
            simulation=None,
        )
        if self._kept is None or self._kept[0] != like:
            self._kept = (like, open_here(job, Path(self._opening.folder), Path(self._opening.data))[0])
        return self._kept[1]

    def _require_metric(self, run: VirtualRun) -> None:
        figures = run.figures("validation").keys() - NO_FIGURES
        if self._opening.metric not in figures:
            raise UnknownNameError.of("metric in [search]:", self._opening.metric, figures)

    def _require_options(self) -> None:
        """Refuse options that the task does not take, before a trial is spent on finding out."""
        task = self._opening.job.task
        file, _, name = task.code.partition(":")
        taken = inspect.signature(load_object(Path(self._opening.folder), file, name)).parameters
        if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken.values()):
            return
        for option in self._opening.options:
            if option not in taken:
                raise UnknownNameError.of("option of the task in [search.parameters]:", option, taken)
