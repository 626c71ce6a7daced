"""Write a task's scores as ONNX: its features in, with as many rows as asked, what `scores` returns out, one file.

`scores` is traced once, for a number of rows that stays a symbol, and each equation of what it comes to is written as
ONNX (primitives.py). Inputs are float32 (float64), and 32 bits wide (64) where they are whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from archipel.data.stores.spool import full_disk_named
from archipel.spec import TaskError
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.jax.parameters import FlatParameters
from archipel.tasks.jax.primitives import PRIMITIVES, RowGraph, Unexportable
from archipel.tasks.jax.task import JaxTask, require_names
from archipel.tasks.port import Samples

ROWS = "rows"
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "remat": "jaxpr", "checkpoint": "jaxpr",
         "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}  # fmt: skip
"""Primitives that carry out a jaxpr of their own → the parameter that holds it."""
HINT = 'write scores() with other operations, or set serve = "none" in [deployment]'


def write_onnx(
    task: JaxTask, parameters: FlatParameters, trained: Mapping[str, Any], samples: Samples, target: Path
) -> None:
    """Write the model with these weights to the file `target`; `samples` show the features' shapes and dtypes.

    Raises:
        TaskError: the task names no features, or its scores need an operation that is not known here; names it.
    """
    if not task.features:
        raise TaskError(
            "the task names no features, so the exported model would have no inputs",
            hint='set features = ("…",) on the task, or serve = "none" in [deployment]',
        )
    require_names(samples, task.features)
    (rows,) = export.symbolic_shape(ROWS)
    shown: dict[str, Any] = {
        name: _shape((rows, *samples[name].shape[1:]), samples[name].dtype) for name in task.features
    }
    named = parameters.named(trained)

    def scores(named: Mapping[str, Any], features: Mapping[str, Any]) -> Any:
        return task.scores(parameters.tree(named), features)

    with user_code("scores", task_folder(task)):
        traced = jax.make_jaxpr(scores)(named, shown)
    graph = RowGraph(rows)
    inputs = {name: graph.input(name, one.dtype, [ROWS, *one.shape[1:]]) for name, one in shown.items()}
    graph.first_input = inputs[task.features[0]]
    held = {name: graph.constant(f"parameters.{name}", np.asarray(array)) for name, array in named.items()}
    (output,) = task.outputs
    try:
        # Dictionaries are flattened in the order of their keys.
        given = [held[name] for name in sorted(held)] + [inputs[name] for name in sorted(inputs)]
        (top,) = _carried_out(graph, traced.jaxpr, traced.consts, given)
    except Unexportable as error:
        raise TaskError(f"this model cannot be exported: {error}", hint=HINT) from error
    graph.add("Identity", top, out=output)
    (answer,) = traced.out_avals
    shape = [side if isinstance(side, int) else str(side) for side in answer.shape]
    with full_disk_named(target.parent):
        target.write_bytes(graph.finish(output, np.dtype(answer.dtype), shape))


def _shape(shape: tuple[Any, ...], dtype: np.dtype[Any]) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def _carried_out(graph: RowGraph, jaxpr: Any, constants: Any, given: list[str]) -> list[str]:
    """Write a jaxpr's equations; return the names of what it returns."""
    names: dict[Any, str] = dict(zip(jaxpr.invars, given, strict=True))
    for variable, constant in zip(jaxpr.constvars, constants, strict=True):
        names[variable] = _literal(graph, constant)

    def read(atom: Any) -> str:
        return _literal(graph, atom.val) if hasattr(atom, "val") else names[atom]

    for equation in jaxpr.eqns:
        kind, inputs = equation.primitive.name, [read(atom) for atom in equation.invars]
        if kind in CALLS:
            inner = equation.params[CALLS[kind]]
            found = _carried_out(graph, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
        elif kind in PRIMITIVES:
            found = [PRIMITIVES[kind](graph, equation, inputs)]
        else:
            raise Unexportable(f"no counterpart of {kind}")
        names.update(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _literal(graph: RowGraph, value: Any) -> str:
    array = np.asarray(value)
    return graph.literal(array, array.dtype)
