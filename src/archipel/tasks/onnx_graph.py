"""An ONNX graph in the making: inputs, constants and nodes by name, and the checked bytes of the whole.

Example:
    graph = Graph()
    x = graph.input("x", np.dtype(np.float32), ["rows", 4])
    top = graph.add("MatMul", x, graph.constant("weight", matrix))
    graph.add("Softmax", top, out="probabilities", axis=1)
    graph.finish("probabilities", np.dtype(np.float32), ["rows", 3])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]
Shape = Sequence[str | int]
"""Lengths, or names of those that vary."""

OPSET = 17
"""Old enough for every onnxruntime in use, new enough for all operators here."""
IR_VERSION = 8


class Graph:
    """Built from the inputs up; every value has a name."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._constants: dict[str, Any] = {}

    def input(self, name: str, dtype: np.dtype[Any], shape: Shape) -> str:
        """Add an input; return its name."""
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def constant(self, name: str, array: Array) -> str:
        """Add a constant; return its name."""
        # Not np.ascontiguousarray, which makes a row of a number.
        self._constants[name] = numpy_helper.from_array(np.array(array, order="C"), name)
        return name

    def literal(self, value: Any, dtype: npt.DTypeLike = np.int64) -> str:
        """Add an unnamed constant; return the name it gets."""
        return self.constant(f"constant{len(self._constants)}", np.asarray(value, dtype))

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        name = out or f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def finish(self, output: str, dtype: np.dtype[Any], shape: Shape) -> bytes:
        """Return the checked model's bytes."""
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        out = helper.make_tensor_value_info(output, kind, list(shape))
        graph = helper.make_graph(self._nodes, "archipel", self._inputs, [out], list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="archipel")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))
