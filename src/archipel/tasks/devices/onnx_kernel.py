"""A kernel as an ONNX model: what runtimes for serving take."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from archipel.spec import TaskError
from archipel.tasks.devices.kernels import CLASSES, FACTOR, Array, Kernel

_TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16}
_OPSET, _IR = 17, 8
_NODES = {
    "product": (("MatMul", ("a", "b"), "out"),),
    "axpy": (("Mul", ("factor", "x"), "scaled"), ("Add", ("scaled", "y"), "out")),
    "network": (
        ("MatMul", ("x", "w1"), "wide"),
        ("Add", ("wide", "b1"), "shifted"),
        ("Relu", ("shifted",), "hidden"),
        ("MatMul", ("hidden", "w2"), "narrow"),
        ("Add", ("narrow", "b2"), "out"),
    ),
}


def onnx_model(kernel: Kernel) -> bytes:
    """Return the kernel as a model with its inputs and the output "out".

    Raises:
        TaskError: ONNX runtimes do not compute with this type.
    """
    if kernel.dtype not in _TYPES:
        raise TaskError(f"ONNX models here have no {kernel.dtype}", hint="use float32 or float16")
    kind = _TYPES[kernel.dtype]
    nodes = [helper.make_node(what, list(given), [made]) for what, given, made in _NODES[kernel.what]]
    constants = [helper.make_tensor("factor", kind, [], [FACTOR])] if kernel.what == "axpy" else []
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in kernel.shapes.items()]
    outputs = [helper.make_tensor_value_info("out", kind, _result_shape(kernel))]
    graph = helper.make_graph(nodes, kernel.what, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def in_type(kernel: Kernel, inputs: dict[str, Array]) -> dict[str, Array]:
    """Return inputs in the kernel's own type, which numpy has for all of ONNX's used here."""
    return {name: value.astype(kernel.dtype) for name, value in inputs.items()}


def _result_shape(kernel: Kernel) -> tuple[int, ...]:
    return {"product": (kernel.size, kernel.size), "axpy": (kernel.size,), "network": (kernel.size, CLASSES)}[
        kernel.what
    ]
