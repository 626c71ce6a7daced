"""The compiled executor of a JaxTask: the user's loss as it is, in a program of a whole cohort's round (tasks/xla)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.jax.loop import one_number
from archipel.tasks.jax.parameters import FlatParameters, key_of
from archipel.tasks.jax.task import JaxTask
from archipel.tasks.port import Samples
from archipel.tasks.xla.backend import computing
from archipel.tasks.xla.compiled import Compiled, cannot_compile, tried_rows


def compile_cohorts(task: JaxTask, parameters: FlatParameters, samples: Samples, device: jax.Device) -> Compiled:
    """Return the executor for the task over `samples`, arrays of the task's precision.

    Raises:
        TaskError: the loss draws at random, or is not a mean over rows.
    """
    double, folder = task.dtype == "float64", task_folder(task)

    def loss(weights: Mapping[str, Any], batch: Mapping[str, Any], seed: int = 0) -> Any:
        with user_code("loss", folder):
            return one_number(task.loss(parameters.tree(weights), batch, key_of(seed)))

    batch = {name: array[tried_rows(samples)] for name, array in samples.items()}
    with computing(double=double, device=device):
        whole, again = (float(jax.jit(loss, static_argnums=2)(parameters.first, batch, seed)) for seed in (0, 1))
    if whole != again and whole == whole:  # noqa: PLR0124 (NaN is nobody's draw)
        raise cannot_compile("its loss draws at random")
    executor = Compiled(loss, parameters.layout, samples, double=double, device=device)
    executor.require_mean(parameters.vector(), whole)
    return executor
