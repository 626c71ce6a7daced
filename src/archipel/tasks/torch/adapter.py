"""TorchAdapter: the port for framework = "torch"."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archipel.data.site_data import SiteData
from archipel.spec import JobSpec, LocalTraining, TaskError
from archipel.tasks.examples import part_of, read_split
from archipel.tasks.extras import require_extra
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.metrics import disclosed
from archipel.tasks.port import Executor, LocalPlan, Progress, Samples, Split, Sums, Task, Trained, Weights, row_count
from archipel.tasks.randomness import READING
from archipel.tasks.torch.batches import Batches, in_order
from archipel.tasks.torch.channels_last import convolves, takes_channels_last
from archipel.tasks.torch.flat_model import FlatModel
from archipel.tasks.torch.loop import Loop
from archipel.tasks.torch.task import TorchTask
from archipel.tasks.torch.threads import choose_device, choose_precision, seeded
from archipel.tasks.weights import require_manifest, require_vector


class TorchAdapter:
    """A TorchTask at one site. Data are read at the first call that needs them, the model is built at its first."""

    def __init__(self, job: JobSpec, task: Task, data: SiteData, statistics: Sums) -> None:
        if not isinstance(task, TorchTask):
            raise TaskError(
                f"{type(task).__name__} is no TorchTask", hint="derive it from archipel.tasks.torch.TorchTask"
            )
        self._task = task
        self._data = data
        self._statistics = statistics
        self._device = choose_device(job.resources.device)
        self._precision = job.resources.precision
        self._seed = job.federation.seed
        self._histograms = job.privacy.histograms

    def initial(self, seed: int) -> Weights:
        """Return the weights of a model built with torch seeded by `seed`."""
        model = FlatModel(self._task, self._statistics, seed, torch.device("cpu"))
        with user_code("parameter_groups", task_folder(self._task)):
            groups = dict(self._task.parameter_groups(model.module))
        multipliers = {prefix: float(multiplier) for prefix, multiplier in groups.items() if multiplier != 1}
        return Weights(manifest=model.manifest, vector=model.take(), buffers=model.buffers, multipliers=multipliers)

    def train(self, weights: Weights, plan: LocalPlan, progress: Progress) -> Trained:
        """Train on the training split from `weights`; see `loop`."""
        require_manifest(weights, self._model.manifest)
        if plan.correction is not None:
            require_vector("the correction", plan.correction, self._model.manifest)
        if plan.private is not None:
            from archipel.tasks.torch.private_loop import PrivateLoop  # noqa: PLC0415 (torch.func costs a second)

            rowwise = PrivateLoop(self._task, self._model, self._batches, plan)
            return rowwise.run(weights.vector, plan.private, self.split.train, progress)
        largest = plan.local.batch_size * self._model.largest
        brief = choose_precision(self._precision, self._device, largest)
        loop = Loop(self._task, self._model, self._batches, plan, brief, images_last=self._images_last)
        return loop.run(weights.vector, self.split.train, progress)

    def evaluate(self, weights: Weights, part: str = "test") -> Sums:
        """Return the task's sums of `weights` on a part of the split."""
        require_manifest(weights, self._model.manifest)
        samples = part_of(self.split, part)
        self._model.put(weights.vector)
        self._model.module.eval()
        with (
            user_code("evaluate", task_folder(self._task)),
            seeded(0, self._device),
            torch.no_grad(),
        ):
            raw: Any = self._task.evaluate(self._model.module, in_order(self._task, samples, self._device))
            return disclosed(raw, histograms=self._histograms)

    def stacked(self) -> Executor:
        """Return the executor that trains clients side by side."""
        from archipel.tasks.torch.stacked import Stacked  # noqa: PLC0415 (live sites never need it)

        return Stacked(self._task, self._model, self._batches, self.split.train)

    def compiled(self) -> Executor:
        """Return the executor that compiles a cohort's round."""
        require_extra("jax", 'the executor "compiled"')
        from archipel.tasks.torch.compiled import compile_cohorts  # noqa: PLC0415 (JAX costs a second)

        return compile_cohorts(self._task, self._model, self._batches, self.split.train)

    def training_step(self, local: LocalTraining) -> Any:
        """Return a step for XLA's devices (tasks.xla's TrainingStep); a TaskError says why there is none."""
        require_extra("jax", "a training step for XLA's devices")
        from archipel.tasks.torch.compiled import step_of  # noqa: PLC0415 (JAX costs a second)

        return step_of(self._task, self._model, self._batches, self.split.train, local)

    def export(self, weights: Weights, target: Path) -> None:
        """Write ONNX that takes the task's features and answers what `scores` returns."""
        from archipel.tasks.torch.onnx_file import write_onnx  # noqa: PLC0415 (the exporter costs seconds to import)

        model = FlatModel(self._task, self._statistics, self._seed, torch.device("cpu"))
        require_manifest(weights, model.manifest)
        model.put(weights.vector)
        write_onnx(self._task, model.module, self._example(), target)

    @cached_property
    def _batches(self) -> Batches:
        return Batches(self._task, self.split.train, self._device)

    @cached_property
    def _model(self) -> FlatModel:
        # Frozen parameters do not travel: every site draws them from the job's seed.
        return self._made()

    def _made(self) -> FlatModel:
        return FlatModel(self._task, self._statistics, self._seed, self._device)

    @cached_property
    def _images_last(self) -> bool:
        # Tried on first weights of its own: what it says may not depend on what was computed before.
        return convolves(self._model) and takes_channels_last(self._task, self._made(), self._batches)

    @cached_property
    def split(self) -> Split:
        """The site's examples, read at the first call."""
        with seeded(READING, self._device):
            return read_split(self._task, self._data, self._statistics)

    def _example(self) -> Samples:
        """Return rows from which the exporter takes shapes and dtypes; zeros at a site that has none."""
        for part in (self.split.train, self.split.test):
            if row_count(part):
                return part
        return {name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in self.split.train.items()}
