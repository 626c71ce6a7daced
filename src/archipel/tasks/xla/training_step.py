"""One step of a task's training over several devices: rows divided, weights everywhere, gradients added by XLA.

    step = executor.training_step(local)          # of a Compiled executor
    program = step.lowered(mesh, rows=512, dtype="bfloat16").compile()
    weights, loss = step.taken(mesh, vector, batch, dtype="float32")

It is the step of `cohort_program`, one batch of it, with the batch's rows laid over the devices of a mesh (data
parallelism); the compiler puts the collectives in (GSPMD, Xu et al. 2021, arXiv:2105.04663). In bfloat16 weights and
rows are rounded for the loss and its gradient; the weights themselves, and what the optimizer remembers, stay as they
are (Micikevicius et al. 2018, arXiv:1710.03740).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from archipel.spec import LocalTraining, ShapeError
from archipel.spec.device import DType
from archipel.tasks.port import Array, Samples, Vector
from archipel.tasks.xla.backend import computing
from archipel.tasks.xla.cohort_program import RowLoss
from archipel.tasks.xla.layout import Layout
from archipel.tasks.xla.local_step import LocalStep

ROWS = "rows"
"""The mesh's one axis."""


@dataclass(frozen=True)
class TrainingStep:
    """What a step computes, for any number of rows."""

    loss: RowLoss
    layout: Layout
    samples: Samples
    """Of the site: their shapes and types are the batch's."""
    local: LocalTraining
    double: bool
    """May the loss use 64-bit types?"""

    def lowered(self, devices: Sequence[Any], rows: int, dtype: DType) -> Any:
        """Return the step over `rows` on these devices, lowered, to be compiled.

        Raises:
            ShapeError: the rows cannot be divided among the devices.
        """
        everywhere, divided = _shardings(devices)
        if rows < 1 or rows % len(devices):
            raise ShapeError(f"{rows} rows over {len(devices)} devices", hint="a multiple of the devices, such as 512")
        elements = (self.layout.elements,)
        with computing(double=self.double):
            vector = jax.ShapeDtypeStruct(elements, jnp.float32, sharding=everywhere)  # type: ignore[no-untyped-call]
            moments = jax.eval_shape(self._first_moments, vector)
            moments = jax.tree.map(lambda one: _shaped(one.shape, one.dtype, everywhere), moments)
            batch = {
                name: _shaped((rows, *array.shape[1:]), array.dtype, divided) for name, array in self.samples.items()
            }
            rate = _shaped((), np.float32, everywhere)
            return self._jitted(dtype).lower(vector, moments, batch, rate)

    def taken(
        self, devices: Sequence[Any], vector: Vector, batch: Mapping[str, Array], rate: float, dtype: DType
    ) -> tuple[Vector, float]:
        """Take the first step from `vector`; return the new weights and the batch's mean loss."""
        everywhere, divided = _shardings(devices)
        with computing(double=self.double):
            start = jax.device_put(vector, everywhere)
            moments = jax.device_put(self._first_moments(start), everywhere)
            placed = {name: jax.device_put(array, divided) for name, array in batch.items()}
            weights, _, loss = self._jitted(dtype)(start, moments, placed, jnp.float32(rate))
            return np.asarray(weights), float(loss)

    def _first_moments(self, vector: Any) -> tuple[Any, ...]:
        return LocalStep(self.local, 0.0).moments(self.layout.tree(vector))

    def _jitted(self, dtype: DType) -> Any:
        step, layout = LocalStep(self.local, 0.0), self.layout

        def taken(vector: Any, moments: Any, batch: Mapping[str, Any], rate: Any) -> tuple[Any, Any, Any]:
            weights = layout.tree(vector)
            loss, slope = jax.value_and_grad(self._mean_loss)(weights, batch, dtype)
            slope = step.shaped(slope, weights, weights, None)
            weights, moments = step.moved(weights, moments, slope, layout.rates(rate), 1)
            return layout.vector(weights), moments, loss

        return jax.jit(taken)

    def _mean_loss(self, weights: Mapping[str, Any], batch: Mapping[str, Any], dtype: DType) -> Any:
        rounded = {name: _rounded(value, dtype) for name, value in weights.items()}
        rows = {name: _rounded(value, dtype)[:, None] for name, value in batch.items()}
        losses = jax.vmap(lambda row: self.loss(rounded, row))(rows)
        return jnp.mean(losses.astype(jnp.float32))


def _rounded(value: Any, dtype: DType) -> Any:
    return value.astype(dtype) if value.dtype == jnp.float32 else value


def _shardings(devices: Sequence[Any]) -> tuple[Any, Any]:
    """Return the whole on each device, and rows divided among them."""
    mesh = jax.sharding.Mesh(np.array(devices), (ROWS,))
    named, axes = jax.sharding.NamedSharding, jax.sharding.PartitionSpec
    return named(mesh, axes()), named(mesh, axes(ROWS))  # type: ignore[no-untyped-call]


def _shaped(shape: tuple[int, ...], dtype: Any, sharding: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)  # type: ignore[no-untyped-call]
