"""A site's samples as the arrays that a JaxTask computes with: numbers, in the widths of its precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.spec import ShapeError
from archipel.tasks.jax.task import JaxTask
from archipel.tasks.port import Samples, row_count

Array = npt.NDArray[Any]
NO_CLASS = -100
NARROW = {"i": np.int32, "u": np.uint32}


def numbers(task: JaxTask, samples: Samples) -> dict[str, Array]:
    """Return the samples that are in a batch: numbers, and whatever the model or the loss asks for.

    Raises:
        ShapeError: one that is asked for is not numeric, too large for single precision, or a label that is no class.
    """
    asked = {*task.features, task.label}
    found = {
        name: number(task, name, array)
        for name, array in samples.items()
        if array.dtype.kind in "fiub" or name in asked
    }
    _require_classes(task, found)
    return found


def number(task: JaxTask, name: str, array: Array) -> Array:
    """Return one sample as the task computes with it."""
    if array.dtype.kind not in "fiub":
        raise ShapeError(f"read() gives {name!r} as {array.dtype}", hint="give numbers")
    if array.dtype.kind == "f":
        return array.astype(task.dtype, copy=False)
    if task.dtype == "float64" or array.dtype.itemsize < 8:
        return array
    narrow = np.iinfo(NARROW[array.dtype.kind])
    if array.size and (array.min() < narrow.min or array.max() > narrow.max):
        raise ShapeError(
            f"{name!r} holds whole numbers beyond {narrow.bits} bits",
            hint='number them from 0, give them as floating-point numbers, or set dtype = "float64" on the task',
        )
    return array.astype(narrow.dtype)


def in_order(task: JaxTask, samples: Samples) -> Iterator[dict[str, Array]]:
    """Yield all rows in order, as many at a time as the task scores."""
    for start in range(0, row_count(samples), task.evaluation_rows):
        yield {name: array[start : start + task.evaluation_rows] for name, array in samples.items()}


def _require_classes(task: JaxTask, samples: Samples) -> None:
    """Refuse labels that are no class, for a program looks at none of them and would go on."""
    labels = samples.get(task.label)
    if not task.classes or labels is None or labels.dtype.kind not in "iu":
        return
    if ((labels >= len(task.classes)) | ((labels < 0) & (labels != NO_CLASS))).any():
        raise ShapeError(
            f"a label is outside the task's {len(task.classes)} classes", hint="labels count from 0; -100 is none"
        )
