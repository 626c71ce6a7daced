"""Write a task's scores as ONNX: its features in, with as many rows as asked, what `scores` returns out, one file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from archipel.data.stores.spool import full_disk_named
from archipel.spec import TaskError
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import Samples, row_count
from archipel.tasks.torch.batches import collate
from archipel.tasks.torch.task import TorchTask

EXAMPLE_ROWS = 2
"""One row would be taken for a constant."""


class Scores(nn.Module):
    """The model together with the task's `scores`, as one module of the features."""

    def __init__(self, task: TorchTask, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, *features: Tensor) -> Tensor:
        """Return the task's scores."""
        return self._task.scores(self.model, dict(zip(self._task.features, features, strict=True)))


def write_onnx(task: TorchTask, model: nn.Module, samples: Samples, target: Path) -> None:
    """Write `model` to the file `target`; `samples` show shapes and dtypes."""
    if not task.features:
        raise TaskError(
            "the task names no features, so the exported model would have no inputs",
            hint='set features = ("…",) on the task, or serve = "none" in [deployment]',
        )
    rows = np.arange(EXAMPLE_ROWS) % row_count(samples)
    batch = collate(task, samples, rows, torch.device("cpu"))
    features = tuple(batch[name] for name in task.features)
    axes: dict[str, Any] = {}
    shapes = tuple(
        {axis: _dimension(name, axes) for axis, name in {0: "rows", **task.dynamic.get(feature, {})}.items()}
        for feature in task.features
    )
    with user_code("export", task_folder(task)), quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                Scores(task, model).eval(),
                features,
                input_names=list(task.features),
                output_names=list(task.outputs),
                dynamic_shapes=(shapes,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # noqa: BLE001 (the exporter raises its users' errors in many wrappings)
            # The exporter wraps what went wrong in a page of advice for its own developers.
            raise error.__cause__ or error from None
    assert program is not None
    with full_disk_named(target.parent):
        target.write_bytes(cleaned(program.model_proto, varying=bool(task.dynamic)))


def cleaned(model: onnx.ModelProto, *, varying: bool) -> bytes:
    """Return the model without the exporter's notes: they hold source lines and paths of the machine it ran on.

    Shapes of intermediate results go too, and where axes besides the first vary also the lengths the exporter saw in
    its example; onnxruntime works both out for itself.
    """
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *model.functions):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for output in graph.output:
        dimensions = output.type.tensor_type.shape.dim
        for place in range(1, len(dimensions) - 1 if varying else 0):
            dimensions[place].Clear()
            dimensions[place].dim_param = f"{output.name}_{place}"
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's progress marks, log lines and deprecation notes off the operator's screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _dimension(name: str, axes: dict[str, Any]) -> Any:
    if name not in axes:
        axes[name] = torch.export.Dim(name)
    return axes[name]
