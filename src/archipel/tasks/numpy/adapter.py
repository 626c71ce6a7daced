"""NumpyAdapter: the port for framework = "numpy"."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.data.site_data import SiteData
from archipel.spec import JobSpec, Manifest, ShapeError, TaskError
from archipel.tasks.examples import part_of, read_split
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.metrics import Classification
from archipel.tasks.numpy import loop
from archipel.tasks.numpy.network import Network, Pass
from archipel.tasks.numpy.task import NumpyTask, feature_matrix
from archipel.tasks.port import LocalPlan, Progress, Samples, Split, Sums, Task, Trained, Weights
from archipel.tasks.weights import require_manifest, require_vector

Array = npt.NDArray[Any]

SCORED_ROWS = 4096
"""Rows scored at a time, so that a large test set needs no large buffers."""


class NumpyAdapter:
    """A NumpyTask at one site. Data are read at the first call that needs them."""

    def __init__(self, job: JobSpec, task: Task, data: SiteData, statistics: Sums) -> None:
        if not isinstance(task, NumpyTask):
            raise TaskError(
                f"{type(task).__name__} is no NumpyTask", hint="derive it from archipel.tasks.numpy.NumpyTask"
            )
        self._task = task
        self._data = data
        self._statistics = statistics
        self._metrics = Classification(histograms=job.privacy.histograms)

    def initial(self, seed: int) -> Weights:
        """Return Glorot's first weights for `seed`."""
        return Weights(manifest=self._manifest, vector=self._network.initial(seed))

    def train(self, weights: Weights, plan: LocalPlan, progress: Progress) -> Trained:
        """Train on the training split from `weights`; see `loop`."""
        require_manifest(weights, self._manifest)
        if plan.correction is not None:
            require_vector("the correction", plan.correction, self._manifest)
        return loop.train(self._network, weights.vector, self._train_arrays, plan, progress)

    def evaluate(self, weights: Weights, part: str = "test") -> Sums:
        """Return classification sums of `weights` on a part of the split."""
        require_manifest(weights, self._manifest)
        inputs, labels = self._arrays(part_of(self.split, part))
        return self._metrics.sums(self.scores(weights, inputs), labels)

    def export(self, weights: Weights, target: Path) -> None:
        """Write ONNX that takes raw features and answers class probabilities."""
        from archipel.tasks.numpy.onnx_file import write_onnx  # noqa: PLC0415 (most sites never export)

        require_manifest(weights, self._manifest)
        write_onnx(self._network, weights, self._task, target)

    def scores(self, weights: Weights, inputs: Array) -> Array:
        """Return probabilities (rows, classes) for scaled inputs."""
        vector = np.array(weights.vector)
        rows = min(SCORED_ROWS, max(len(inputs), 1))
        forward = Pass(self._network, vector, np.zeros_like(vector), rows)
        scores = np.empty((len(inputs), self._network.outputs), self._network.dtype)
        for start in range(0, len(inputs), rows):
            scores[start : start + rows] = forward.scores(inputs[start : start + rows])
        return scores

    @cached_property
    def _network(self) -> Network:
        with user_code("model", task_folder(self._task)):
            network: Any = self._task.model(dict(self._statistics))
        if not isinstance(network, Network):
            raise ShapeError(f"model() returned {type(network).__name__}", hint="return archipel.tasks.numpy.Network")
        network.check()
        if self._task.classes and network.outputs != len(self._task.classes):
            raise ShapeError(
                f"the network has {network.outputs} outputs for {len(self._task.classes)} classes",
                hint="set outputs=len(self.classes)",
            )
        return network

    @cached_property
    def _manifest(self) -> Manifest:
        return self._network.manifest()

    @cached_property
    def split(self) -> Split:
        """The site's examples, read at the first call."""
        return read_split(self._task, self._data, self._statistics)

    @cached_property
    def _train_arrays(self) -> tuple[Array, Array]:
        return self._arrays(self.split.train)

    def _arrays(self, samples: Samples) -> tuple[Array, Array]:
        """Return scaled inputs and class numbers of a part."""
        with user_code("read", task_folder(self._task)):
            inputs = feature_matrix(samples, self._task.features)
        if self._task.label not in samples:
            raise ShapeError(f"read() gives no label {self._task.label!r}", hint=f"it gives {', '.join(samples)}")
        labels = np.asarray(samples[self._task.label])
        if inputs.shape[1] != self._network.inputs:
            raise ShapeError(
                f"the features have {inputs.shape[1]} columns, the network {self._network.inputs} inputs",
                hint="set inputs=len(self.features)",
            )
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise ShapeError(
                f"the label is {labels.dtype} of shape {labels.shape}", hint="give class numbers, see encode_labels"
            )
        if len(labels) and (labels.min() < 0 or labels.max() >= self._network.outputs):
            raise ShapeError(
                f"a label is outside the network's {self._network.outputs} classes", hint="labels count from 0"
            )
        return self._network.scaled(inputs), labels
