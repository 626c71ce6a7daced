"""JaxAdapter: the port for framework = "jax"."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from archipel.data.site_data import SiteData
from archipel.spec import JobSpec, LocalTraining, TaskError
from archipel.tasks.examples import part_of, read_split
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.jax.loop import Loop
from archipel.tasks.jax.parameters import FlatParameters
from archipel.tasks.jax.samples import in_order, numbers
from archipel.tasks.jax.task import JaxTask
from archipel.tasks.metrics import added, disclosed
from archipel.tasks.port import LocalPlan, Progress, Samples, Split, Sums, Task, Trained, Weights
from archipel.tasks.weights import require_manifest, require_vector
from archipel.tasks.xla.backend import choose_device, computing
from archipel.tasks.xla.compiled import Compiled
from archipel.tasks.xla.training_step import TrainingStep


class JaxAdapter:
    """A JaxTask at one site. Data are read at the first call that needs them, parameters are drawn at its first."""

    def __init__(self, job: JobSpec, task: Task, data: SiteData, statistics: Sums) -> None:
        if not isinstance(task, JaxTask):
            raise TaskError(f"{type(task).__name__} is no JaxTask", hint="derive it from archipel.tasks.jax.JaxTask")
        if task.dtype not in {"float32", "float64"}:
            raise TaskError(f"the task's dtype is {task.dtype!r}", hint='use "float32" or "float64"')
        self._task = task
        self._data = data
        self._statistics = statistics
        self._device = choose_device(job.resources.device)
        self._seed = job.federation.seed
        self._histograms = job.privacy.histograms

    def initial(self, seed: int) -> Weights:
        """Return the weights that the task draws with the key of `seed`."""
        with self._computing():
            first = FlatParameters(self._task, self._statistics, seed)
        multipliers = {prefix: factor for prefix, factor in first.groups.items() if factor != 1}
        return Weights(manifest=first.manifest, vector=first.vector(), multipliers=multipliers)

    def train(self, weights: Weights, plan: LocalPlan, progress: Progress) -> Trained:
        """Train on the training split from `weights`; see `loop`."""
        require_manifest(weights, self._parameters.manifest)
        if plan.correction is not None:
            require_vector("the correction", plan.correction, self._parameters.manifest)
        with self._computing():
            return self._loop.run(weights.vector, self._train_numbers, plan, progress)

    def evaluate(self, weights: Weights, part: str = "test") -> Sums:
        """Return the task's sums of `weights` on a part of the split."""
        require_manifest(weights, self._parameters.manifest)
        samples = numbers(self._task, part_of(self.split, part))
        trained = self._parameters.layout.tree(weights.vector)
        with user_code("scores", task_folder(self._task)), self._computing():
            parts = (
                self._task.sums(np.asarray(self._scores(trained, batch)), batch)
                for batch in in_order(self._task, samples)
            )
            raw = added(parts) or self._task.no_sums()
            return disclosed(raw, histograms=self._histograms)

    def compiled(self) -> Compiled:
        """Return the executor that compiles a cohort's round."""
        from archipel.tasks.jax.compiled import compile_cohorts  # noqa: PLC0415 (live sites never need it)

        return compile_cohorts(self._task, self._parameters, self._train_numbers, self._device)

    def training_step(self, local: LocalTraining) -> TrainingStep:
        """Return one step of training for XLA's devices; a TaskError says why there is none."""
        return self.compiled().training_step(local)

    def export(self, weights: Weights, target: Path) -> None:
        """Write ONNX that takes the task's features and answers what `scores` returns."""
        from archipel.tasks.jax.onnx_file import write_onnx  # noqa: PLC0415 (most sites never export)

        require_manifest(weights, self._parameters.manifest)
        trained = self._parameters.layout.tree(weights.vector)
        with self._computing():
            write_onnx(self._task, self._parameters, trained, self._train_numbers, target)

    def _computing(self) -> AbstractContextManager[None]:
        return computing(double=self._task.dtype == "float64", device=self._device)

    @cached_property
    def _scores(self) -> Any:
        return jax.jit(lambda trained, batch: self._task.scores(self._parameters.tree(trained), batch))

    @cached_property
    def _parameters(self) -> FlatParameters:
        # What is not trained does not travel: every site draws it from the job's seed.
        with self._computing():
            return FlatParameters(self._task, self._statistics, self._seed)

    @cached_property
    def _loop(self) -> Loop:
        return Loop(self._task, self._parameters)

    @cached_property
    def split(self) -> Split:
        """The site's examples, read at the first call."""
        return read_split(self._task, self._data, self._statistics)

    @cached_property
    def _train_numbers(self) -> Samples:
        return numbers(self._task, self.split.train)
