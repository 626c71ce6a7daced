"""JAX primitives as ONNX nodes: what dense, embedding, normalising and attention-like models of jax.numpy come to.

Each function gets the graph, the equation of the jaxpr and the names of its inputs, and returns the name of its one
output. Lengths that follow the number of rows are JAX's symbolic dimension; they may be copied, not computed with.

Source: docs.jax.dev, "Understanding jaxprs"; ONNX operators of opset 17, github.com/onnx/onnx, docs/Operators.md.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper

from archipel.tasks.onnx_graph import Graph

END = np.iinfo(np.int64).max


class Unexportable(Exception):  # noqa: N818 (told on as a TaskError that names the model)
    """A primitive, or a use of one, that has no counterpart here."""


class RowGraph(Graph):
    """A graph whose inputs share a number of rows that is known when it runs."""

    def __init__(self, rows: Any) -> None:
        super().__init__()
        self._symbol = rows
        self.first_input = ""

    def count(self) -> str:
        """Return the number of rows, as a vector of one number."""
        return self.add("Shape", self.first_input, start=0, end=1)

    def lengths(self, shape: Sequence[Any]) -> str:
        """Return a shape as a vector of numbers."""
        if all(isinstance(side, int) for side in shape):
            return self.literal(shape)
        if any(not isinstance(side, int) and side != self._symbol for side in shape):
            raise Unexportable(f"a shape {tuple(map(str, shape))} computed from the number of rows")
        return self.add(
            "Concat", *(self.literal([side]) if isinstance(side, int) else self.count() for side in shape), axis=0
        )


Export = Callable[[RowGraph, Any, Sequence[str]], str]


def _named(kind: str) -> Export:
    return lambda graph, _equation, inputs: graph.add(kind, *inputs)


def _logical(kind: str) -> Export:
    def export(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
        if _dtype(equation) != np.bool_:
            raise Unexportable(f"{equation.primitive.name} of whole numbers")
        return graph.add(kind, *inputs)

    return export


def _reduced(kind: str) -> Export:
    def export(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
        return graph.add(kind, *inputs, axes=list(equation.params["axes"]), keepdims=0)

    return export


def _reduce_sum(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("ReduceSum", inputs[0], graph.literal(equation.params["axes"]), keepdims=0)


def _argmax(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    found = graph.add("ArgMax", inputs[0], axis=equation.params["axes"][0], keepdims=0)
    return _cast(graph, found, _dtype(equation))


def _convert(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    return _cast(graph, inputs[0], _dtype(equation))


def _not_equal(graph: RowGraph, _equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("Not", graph.add("Equal", *inputs))


def _rsqrt(graph: RowGraph, _equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("Reciprocal", graph.add("Sqrt", *inputs))


def _square(graph: RowGraph, _equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("Mul", inputs[0], inputs[0])


def _log1p(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("Log", graph.add("Add", inputs[0], graph.literal(1, _dtype(equation))))


def _expm1(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("Sub", graph.add("Exp", inputs[0]), graph.literal(1, _dtype(equation)))


def _erfc(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("Sub", graph.literal(1, _dtype(equation)), graph.add("Erf", inputs[0]))


def _power(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("Pow", inputs[0], graph.literal(equation.params["y"], _dtype(equation)))


def _select(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    if len(inputs) != 3 or equation.invars[0].aval.dtype != np.bool_:
        raise Unexportable("select_n of more than two cases")
    return graph.add("Where", inputs[0], inputs[2], inputs[1])


def _clamp(graph: RowGraph, _equation: Any, inputs: Sequence[str]) -> str:
    low, value, high = inputs
    return graph.add("Min", graph.add("Max", value, low), high)


def _broadcast(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    shape, kept = equation.params["shape"], equation.params["broadcast_dimensions"]
    new = [axis for axis in range(len(shape)) if axis not in kept]
    given = dict(zip(kept, equation.invars[0].aval.shape, strict=True))
    top = graph.add("Unsqueeze", inputs[0], graph.literal(new)) if new else inputs[0]
    if all(given.get(axis, 1) == side for axis, side in enumerate(shape)):
        return top
    return graph.add("Expand", top, graph.lengths(shape))


def _reshape(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    sides = [side if isinstance(side, int) else -1 for side in equation.params["new_sizes"]]
    if sides.count(-1) > 1 or equation.params.get("dimensions") is not None:
        raise Unexportable("a reshape with two lengths that vary")
    return graph.add("Reshape", inputs[0], graph.literal(sides))


def _squeeze(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("Squeeze", inputs[0], graph.literal(equation.params["dimensions"]))


def _transpose(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("Transpose", inputs[0], perm=list(equation.params["permutation"]))


def _concatenate(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    return graph.add("Concat", *inputs, axis=equation.params["dimension"])


def _stack(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    axis = equation.params["axis"]
    return graph.add("Concat", *(graph.add("Unsqueeze", one, graph.literal([axis])) for one in inputs), axis=axis)


def _slice(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    asked, shape = equation.params, equation.invars[0].aval.shape
    ends = [END if limit == side else limit for limit, side in zip(asked["limit_indices"], shape, strict=True)]
    if not all(isinstance(place, int) for place in (*asked["start_indices"], *ends)):
        raise Unexportable("a slice computed from the number of rows")
    steps = asked["strides"] or [1] * len(shape)
    parts = (asked["start_indices"], ends, range(len(shape)), steps)
    return graph.add("Slice", inputs[0], *(graph.literal(list(part)) for part in parts))


def _gather(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    """One axis indexed by whole numbers (an embedding, a column), the others taken whole."""
    asked, shape = equation.params["dimension_numbers"], equation.invars[0].aval.shape
    sizes = list(equation.params["slice_sizes"])
    axes, indices = asked.start_index_map, equation.invars[1].aval.shape
    # One axis, and indices of one number each.
    whole = len(axes) == 1 and indices[-1] == 1 and not asked.operand_batching_dims
    whole = whole and all(
        size == side for at, (size, side) in enumerate(zip(sizes, shape, strict=True)) if at != axes[0]
    )
    if not whole:
        raise Unexportable("gather along several axes")
    (axis,) = axes
    if len(indices) == 1 and axis not in asked.collapsed_slice_dims:
        begin = graph.add("Cast", inputs[1], to=_kind(np.int64))
        end = graph.add("Add", begin, graph.literal([sizes[axis]]))
        return graph.add("Slice", inputs[0], begin, end, graph.literal([axis]))
    # ONNX puts what the indices number in the place of the axis.
    new = [at for at in range(len(equation.outvars[0].aval.shape)) if at not in asked.offset_dims]
    if tuple(asked.collapsed_slice_dims) != axes or new != list(range(axis, axis + len(indices) - 1)):
        raise Unexportable("gather along an inner axis")
    places = graph.add("Squeeze", inputs[1], graph.literal([len(indices) - 1]))
    return graph.add("Gather", inputs[0], places, axis=axis)


def _iota(graph: RowGraph, equation: Any, _inputs: Sequence[str]) -> str:
    shape, axis = equation.params["shape"], equation.params["dimension"]
    if not all(isinstance(side, int) for side in shape):
        raise Unexportable("numbering the rows")
    sides = [-1 if at == axis else 1 for at in range(len(shape))]
    return graph.literal(np.broadcast_to(np.arange(shape[axis]).reshape(sides), shape), _dtype(equation))


def _dot(graph: RowGraph, equation: Any, inputs: Sequence[str]) -> str:
    """A product of matrices where it is one, and Einstein's sum in every other case."""
    (left_sum, right_sum), (left_batch, right_batch) = equation.params["dimension_numbers"]
    left, right = (len(operand.aval.shape) for operand in equation.invars)
    if not left_batch and tuple(left_sum) == (left - 1,) and tuple(right_sum) == (0,) and left > 1 and right == 2:
        return graph.add("MatMul", *inputs)
    letters = iter(string.ascii_letters)
    of_left = [next(letters) for _ in range(left)]
    pairs = dict(zip((*right_sum, *right_batch), (*left_sum, *left_batch), strict=True))
    of_right = [of_left[pairs[at]] if at in pairs else next(letters) for at in range(right)]
    kept = [of_left[at] for at in left_batch]
    kept += [name for at, name in enumerate(of_left) if at not in {*left_sum, *left_batch}]
    kept += [name for at, name in enumerate(of_right) if at not in pairs]
    return graph.add("Einsum", *inputs, equation=f"{''.join(of_left)},{''.join(of_right)}->{''.join(kept)}")


def _rows(graph: RowGraph, equation: Any, _inputs: Sequence[str]) -> str:
    count = graph.add("Squeeze", graph.lengths([equation.params["dim"]]), graph.literal([0]))
    return _cast(graph, count, _dtype(equation))


def _cast(graph: Graph, name: str, dtype: np.dtype[Any]) -> str:
    return graph.add("Cast", name, to=_kind(dtype))


def _dtype(equation: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(equation.outvars[0].aval.dtype)
    return dtype


def _kind(dtype: Any) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


PRIMITIVES: Mapping[str, Export] = {
    "abs": _named("Abs"),
    "add": _named("Add"),
    "and": _logical("And"),
    "argmax": _argmax,
    "broadcast_in_dim": _broadcast,
    "ceil": _named("Ceil"),
    "clamp": _clamp,
    "concatenate": _concatenate,
    "convert_element_type": _convert,
    "copy": _named("Identity"),
    "cos": _named("Cos"),
    "dim_as_value": _rows,
    "div": _named("Div"),
    "dot_general": _dot,
    "eq": _named("Equal"),
    "erf": _named("Erf"),
    "erfc": _erfc,
    "exp": _named("Exp"),
    "expm1": _expm1,
    "floor": _named("Floor"),
    "gather": _gather,
    "ge": _named("GreaterOrEqual"),
    "gt": _named("Greater"),
    "integer_pow": _power,
    "iota": _iota,
    "le": _named("LessOrEqual"),
    "log": _named("Log"),
    "log1p": _log1p,
    "logistic": _named("Sigmoid"),
    "lt": _named("Less"),
    "max": _named("Max"),
    "min": _named("Min"),
    "mul": _named("Mul"),
    "ne": _not_equal,
    "neg": _named("Neg"),
    "not": _logical("Not"),
    "or": _logical("Or"),
    "pow": _named("Pow"),
    "reduce_max": _reduced("ReduceMax"),
    "reduce_min": _reduced("ReduceMin"),
    "reduce_sum": _reduce_sum,
    "reshape": _reshape,
    "rsqrt": _rsqrt,
    "select_n": _select,
    "sign": _named("Sign"),
    "sin": _named("Sin"),
    "slice": _slice,
    "sqrt": _named("Sqrt"),
    "square": _square,
    "squeeze": _squeeze,
    "stack": _stack,
    "stop_gradient": _named("Identity"),
    "sub": _named("Sub"),
    "tanh": _named("Tanh"),
    "transpose": _transpose,
}
"""Name → its counterpart."""
