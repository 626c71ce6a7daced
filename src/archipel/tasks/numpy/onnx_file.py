"""Write a network as ONNX: raw features in, one input a feature with as many rows as asked, probabilities out.

    bill_length_mm (rows,) ─┐
    bill_depth_mm  (rows,) ─┼─ Unsqueeze ─ Concat ─ Sub ─ Div ─ NaN to 0 ─ Gemm ─ Tanh … Softmax ─ probabilities
    …                      ─┘

A task with a single feature of several columns gets one input of shape (rows, columns).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from archipel.data.stores.spool import full_disk_named
from archipel.spec import ShapeError
from archipel.spec.tensors import views
from archipel.tasks.numpy.network import Network
from archipel.tasks.numpy.task import NumpyTask
from archipel.tasks.onnx_graph import Graph
from archipel.tasks.port import Weights


def write_onnx(network: Network, weights: Weights, task: NumpyTask, target: Path) -> None:
    """Write `network` with `weights` to the file `target`."""
    graph, dtype = Graph(), np.dtype(network.dtype)
    top = _scaled(graph, _features(graph, tuple(task.features), network), network)
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
        target.write_bytes(graph.finish(output, dtype, ["rows", network.outputs]))


def _features(graph: Graph, features: tuple[str, ...], network: Network) -> str:
    """Add the inputs; return the name of the matrix of all features."""
    dtype = np.dtype(network.dtype)
    if len(features) == 1 and network.inputs > 1:
        return graph.input(features[0], dtype, ["rows", network.inputs])
    if len(features) != network.inputs:
        raise ShapeError(
            f"{len(features)} features for {network.inputs} inputs cannot be exported",
            hint="give one feature an input, or all of them as one feature of shape (rows, inputs)",
        )
    axis = graph.constant("column_axis", np.array([1], dtype=np.int64))
    columns = [graph.add("Unsqueeze", graph.input(name, dtype, ["rows"]), axis) for name in features]
    return graph.add("Concat", *columns, axis=1)


def _scaled(graph: Graph, top: str, network: Network) -> str:
    """Add scaling; return the name of the matrix that the first layer takes."""
    if network.mean is not None:
        top = graph.add("Sub", top, graph.constant("mean", network.mean.astype(network.dtype)))
    if network.scale is not None:
        top = graph.add("Div", top, graph.constant("scale", network.scale.astype(network.dtype)))
    return graph.add("Where", graph.add("IsNaN", top), graph.constant("missing", np.zeros((), network.dtype)), top)
