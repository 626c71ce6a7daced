"""Write a network as ONNX: raw features in, one input a feature with as many rows as asked, probabilities out.

    bill_length_mm (rows,) ─┐
    bill_depth_mm  (rows,) ─┼─ Unsqueeze ─ Concat ─ Sub ─ Div ─ NaN to 0 ─ Gemm ─ Tanh … Softmax ─ probabilities
    …                      ─┘

A task with a single feature of several columns gets one input of shape (rows, columns).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from archipel.data.stores.spool import full_disk_named
from archipel.spec import ShapeError
from archipel.spec.tensors import views
from archipel.tasks.numpy.network import Network
from archipel.tasks.numpy.task import NumpyTask
from archipel.tasks.port import Weights

Array = npt.NDArray[Any]

OPSET = 17
"""Old enough for every onnxruntime in use, new enough for all operators here."""
IR_VERSION = 8


def write_onnx(network: Network, weights: Weights, task: NumpyTask, target: Path) -> None:
    """Write `network` with `weights` to the file `target`."""
    graph = _Graph(network)
    top = graph.take_features(tuple(task.features), network)
    arrays = views(np.ascontiguousarray(weights.vector), network.manifest())
    layers = len(network.hidden) + 1
    for layer in range(layers):
        matrix = graph.constant(f"layer{layer}.weight", arrays[f"layer{layer}.weight"])
        bias = graph.constant(f"layer{layer}.bias", arrays[f"layer{layer}.bias"])
        top = graph.add("Gemm", top, matrix, bias)
        if layer < layers - 1:
            top = graph.add("Tanh" if network.activation == "tanh" else "Relu", top)
    (output,) = task.outputs
    graph.add("Softmax", top, out=output, axis=1)
    with full_disk_named(target.parent):
        target.write_bytes(graph.finish(output, network.outputs))


class _Graph:
    """An ONNX graph in the making."""

    def __init__(self, network: Network) -> None:
        self._dtype = np.dtype(network.dtype)
        self._kind = TensorProto.FLOAT if network.dtype == "float32" else TensorProto.DOUBLE
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, name: str, array: Array) -> str:
        """Add a constant."""
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        name = out or f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def take_features(self, features: tuple[str, ...], network: Network) -> str:
        """Add the inputs, and scaling; return the name of the matrix that the first layer takes."""
        if len(features) == 1 and network.inputs > 1:
            self._input(features[0], ["rows", network.inputs])
            top = features[0]
        elif len(features) == network.inputs:
            axis = self.constant("column_axis", np.array([1], dtype=np.int64))
            for name in features:
                self._input(name, ["rows"])
            columns = [self.add("Unsqueeze", name, axis) for name in features]
            top = self.add("Concat", *columns, axis=1)
        else:
            raise ShapeError(
                f"{len(features)} features for {network.inputs} inputs cannot be exported",
                hint="give one feature an input, or all of them as one feature of shape (rows, inputs)",
            )
        if network.mean is not None:
            top = self.add("Sub", top, self.constant("mean", network.mean.astype(self._dtype)))
        if network.scale is not None:
            top = self.add("Div", top, self.constant("scale", network.scale.astype(self._dtype)))
        zero = self.constant("missing", np.zeros((), self._dtype))
        return self.add("Where", self.add("IsNaN", top), zero, top)

    def finish(self, output: str, width: int) -> bytes:
        """Return the checked model's bytes."""
        out = helper.make_tensor_value_info(output, self._kind, ["rows", width])
        graph = helper.make_graph(self._nodes, "archipel", self._inputs, [out], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="archipel")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    def _input(self, name: str, shape: list[str | int]) -> None:
        self._inputs.append(helper.make_tensor_value_info(name, self._kind, shape))
