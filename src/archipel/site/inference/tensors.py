"""Tensors of the Open Inference Protocol v2 as JSON, to and from numpy arrays.

`data` may be flat or nested; either way it is in row-major order and as long as `shape` says. Numbers are taken only
if the datatype holds them: 300 is no UINT8, 1.5 no INT64.

Example:
    >>> to_array(Tensor(name="x", datatype="FP32", shape=(2, 1), data=[1.5, 2])).tolist()
    [[1.5], [2.0]]
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from archipel.spec import SpecError

Array = npt.NDArray[Any]

NUMPY_OF: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
DATATYPE_OF = {dtype: name for name, dtype in NUMPY_OF.items()}


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any
    parameters: dict[str, Any] = {}


def to_array(tensor: Tensor) -> Array:
    """Return the array a tensor describes.

    Raises:
        SpecError: unknown datatype, a shape that disagrees with the data, or a value the datatype does not hold.
    """
    dtype = NUMPY_OF.get(tensor.datatype)
    what = f"input {tensor.name!r}"
    if dtype is None:
        raise SpecError(f"{what} has datatype {tensor.datatype!r}", hint=f"use one of {', '.join(NUMPY_OF)}")
    if any(side < 0 for side in tensor.shape):
        raise SpecError(f"{what} has a negative side in its shape {list(tensor.shape)}")
    flat: list[Any] = []
    _flatten(tensor.data, flat)
    if len(flat) != math.prod(tensor.shape):
        raise SpecError(
            f"{what} has {len(flat)} values, its shape {list(tensor.shape)} needs {math.prod(tensor.shape)}"
        )
    _check_values(what, tensor.datatype, dtype, flat)
    return np.array(flat, dtype=dtype).reshape(tensor.shape)


def from_array(name: str, array: Array) -> Tensor:
    """Return an array as a tensor, its data flat."""
    if array.dtype.kind in "OUS":
        return Tensor(name=name, datatype="BYTES", shape=array.shape, data=[str(value) for value in array.ravel()])
    return Tensor(name=name, datatype=DATATYPE_OF[array.dtype], shape=array.shape, data=array.ravel().tolist())


def _flatten(data: Any, into: list[Any]) -> None:
    if not isinstance(data, list):
        into.append(data)
        return
    for item in data:
        _flatten(item, into)


def _check_values(what: str, datatype: str, dtype: np.dtype[Any], values: list[Any]) -> None:
    allowed = {"b": (bool,), "u": (int,), "i": (int,), "f": (int, float), "O": (str,)}[dtype.kind]
    for value in values:
        wrong = not isinstance(value, allowed) or (isinstance(value, bool) and dtype.kind != "b")
        if wrong or (dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max):
            raise SpecError(f"{what} has a value that is no {datatype}: {value!r}"[:200])
