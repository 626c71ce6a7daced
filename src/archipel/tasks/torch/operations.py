# ruff: noqa: FBT001, FBT002 - positional flags are ATen's own
"""Core ATen operations by name, in jax.numpy: the same argument order, defaults and results.

Source: PyTorch's native_functions.yaml and the core ATen IR page. Only what keeps its meaning under differentiation
and needs no random numbers is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch

Array = Any
DTYPES = {
    torch.float64: jnp.float64,
    torch.float32: jnp.float32,
    torch.int64: jnp.int64,
    torch.int32: jnp.int32,
    torch.int16: jnp.int16,
    torch.uint8: jnp.uint8,
    torch.bool: jnp.bool_,
}


def _axes(dim: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """An empty list of dimensions means all of them."""
    if dim is None:
        return None
    found = (dim,) if isinstance(dim, int) else tuple(dim)
    return found or None


def _sum(x: Array, dim: Sequence[int] | None = None, keepdim: bool = False, dtype: Any = None) -> Array:
    kind = DTYPES[dtype] if dtype is not None else None
    if kind is None and not jnp.issubdtype(x.dtype, jnp.floating):
        kind = jnp.int64
    return jnp.sum(x, axis=_axes(dim), keepdims=keepdim, dtype=kind)


def _mean(x: Array, dim: Sequence[int] | None = None, keepdim: bool = False, dtype: Any = None) -> Array:
    return jnp.mean(x, axis=_axes(dim), keepdims=keepdim, dtype=None if dtype is None else DTYPES[dtype])


def _var(x: Array, dim: Sequence[int] | None = None, correction: float = 1, keepdim: bool = False) -> Array:
    return jnp.var(x, axis=_axes(dim), ddof=int(correction), keepdims=keepdim)


def _amax(x: Array, dim: Sequence[int] = (), keepdim: bool = False) -> Array:
    return jnp.max(x, axis=_axes(dim), keepdims=keepdim)


def _squeeze(x: Array, dim: int | Sequence[int] | None = None) -> Array:
    if dim is None:
        return jnp.squeeze(x)
    axes = (dim,) if isinstance(dim, int) else tuple(dim)
    return jnp.squeeze(x, tuple(axis for axis in axes if x.shape[axis] == 1))


def _slice(x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    index = [slice(None)] * x.ndim
    index[dim] = slice(start, end, step)
    return x[tuple(index)]


def _split(x: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
    places = [sum(sizes[:at]) for at in range(1, len(sizes))]
    return jnp.split(x, places, axis=dim)


def _gather(x: Array, dim: int, index: Array, sparse_grad: bool = False) -> Array:  # noqa: ARG001
    return jnp.take_along_axis(x, index, axis=dim, mode="promise_in_bounds")


def _index(x: Array, indices: Sequence[Array | None]) -> Array:
    return x[tuple(slice(None) if index is None else index for index in indices)]


def _embedding(weight: Array, index: Array, padding: int = -1, *_ignored: Any) -> Array:
    found = weight.at[index].get(mode="promise_in_bounds")
    if padding < 0:
        return found
    # A padding row takes no gradient.
    return jnp.where((index == padding)[..., None], jax.lax.stop_gradient(found), found)


def _expand(x: Array, size: Sequence[int], implicit: bool = False) -> Array:  # noqa: ARG001
    added = len(size) - x.ndim
    shape = [x.shape[at - added] if length == -1 else length for at, length in enumerate(size)]
    return jnp.broadcast_to(x, shape)


def _add(x: Array, y: Array, alpha: float = 1) -> Array:
    return x + (y if alpha == 1 else alpha * y)


def _sub(x: Array, y: Array, alpha: float = 1) -> Array:
    return x - (y if alpha == 1 else alpha * y)


def _div(x: Array, y: Array, rounding_mode: str | None = None) -> Array:
    if rounding_mode == "floor":
        return jnp.floor_divide(x, y)
    return jnp.trunc(x / y) if rounding_mode == "trunc" else x / y


def _addmm(bias: Array, x: Array, y: Array, beta: float = 1, alpha: float = 1) -> Array:
    product = x @ y
    return (bias if beta == 1 else beta * bias) + (product if alpha == 1 else alpha * product)


def _to_copy(x: Array, dtype: Any = None, **_where: Any) -> Array:
    return x if dtype is None else x.astype(DTYPES[dtype])


def _full(size: Sequence[int], value: float, dtype: Any = None, **_where: Any) -> Array:
    return jnp.full(tuple(size), value, DTYPES[dtype] if dtype is not None else None)


def _full_like(x: Array, value: float, dtype: Any = None, **_where: Any) -> Array:
    return jnp.full_like(x, value, dtype=None if dtype is None else DTYPES[dtype])


def _scalar(value: float, dtype: Any = torch.float32, **_where: Any) -> Array:
    return jnp.asarray(value, DTYPES[dtype])


def _arange(start: int, end: int, step: int = 1, dtype: Any = torch.int64, **_where: Any) -> Array:
    return jnp.arange(start, end, step, DTYPES[dtype])


def _gelu(x: Array, approximate: str = "none") -> Array:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _clamp(x: Array, low: Any = None, high: Any = None) -> Array:
    return jnp.clip(x, low, high)


def _leaky(x: Array, slope: float = 0.01) -> Array:
    return jnp.where(x > 0, x, x * slope)


def _elu(x: Array, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Array:
    negative = alpha * jnp.expm1(jnp.where(x > 0, 0.0, x) * input_scale)
    return scale * jnp.where(x > 0, x, negative)


def _layer_norm(
    x: Array, shape: Sequence[int], weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    mean = jnp.mean(x, axis=axes, keepdims=True)
    rstd = jax.lax.rsqrt(jnp.mean(jnp.square(x - mean), axis=axes, keepdims=True) + eps)
    out = (x - mean) * rstd
    out = out if weight is None else out * weight
    return out if bias is None else out + bias, mean, rstd


def _group_norm(  # noqa: PLR0917 - ATen's own order
    x: Array, weight: Array | None, bias: Array | None, n: int, c: int, hw: int, groups: int, eps: float
) -> tuple[Array, Array, Array]:
    cut = x.reshape(n, groups, c // groups * hw)
    mean = jnp.mean(cut, axis=2, keepdims=True)
    rstd = jax.lax.rsqrt(jnp.mean(jnp.square(cut - mean), axis=2, keepdims=True) + eps)
    out = ((cut - mean) * rstd).reshape(x.shape)
    shape = (1, c) + (1,) * (x.ndim - 2)
    out = out if weight is None else out * weight.reshape(shape)
    out = out if bias is None else out + bias.reshape(shape)
    return out, mean.reshape(n, groups), rstd.reshape(n, groups)


def _convolution(  # noqa: PLR0917 - ATen's own order
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],  # noqa: ARG001
    groups: int,
) -> Array:
    if transposed:
        raise NotImplementedError("transposed convolution")
    out = jax.lax.conv_general_dilated(
        x,
        weight,
        window_strides=tuple(stride),
        padding=[(one, one) for one in padding],
        rhs_dilation=tuple(dilation),
        feature_group_count=groups,
    )
    return out if bias is None else out + bias.reshape((1, -1) + (1,) * (x.ndim - 2))


def _max_pool(  # noqa: PLR0917 - ATen's own order
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil: bool = False,
) -> tuple[Array, None]:
    if ceil or any(one != 1 for one in dilation):
        raise NotImplementedError("max pooling with ceil_mode or dilation")
    out = jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        (1, 1, *kernel),
        (1, 1, *(stride or kernel)),
        [(0, 0), (0, 0), *((one, one) for one in padding)],
    )
    return out, None


def _log_softmax(x: Array, dim: int, half: bool = False) -> Array:  # noqa: ARG001
    return jax.nn.log_softmax(x, axis=dim)


def _softmax(x: Array, dim: int, half: bool = False) -> Array:  # noqa: ARG001
    return jax.nn.softmax(x, axis=dim)


def _same(x: Array, *_args: Any, **_options: Any) -> Array:
    return x


OPERATIONS: dict[str, Callable[..., Any]] = {
    "_assert_tensor_metadata": lambda *_args, **_options: None,
    "_log_softmax": _log_softmax,
    "_softmax": _softmax,
    "_to_copy": _to_copy,
    "_unsafe_view": lambda x, size: jnp.reshape(x, tuple(size)),
    "abs": jnp.abs,
    "add": _add,
    "addmm": _addmm,
    "alias": _same,
    "amax": _amax,
    "any": lambda x, dim=None, keepdim=False: jnp.any(x, axis=_axes(dim), keepdims=keepdim),
    "arange": _arange,
    "bitwise_and": jnp.bitwise_and,
    "bitwise_not": jnp.bitwise_not,
    "bitwise_or": jnp.bitwise_or,
    "bmm": jnp.matmul,
    "cat": lambda parts, dim=0: jnp.concatenate(parts, axis=dim),
    "clamp": _clamp,
    "clone": _same,
    "convolution": _convolution,
    "cos": jnp.cos,
    "detach": jax.lax.stop_gradient,
    "div": _div,
    "elu": _elu,
    "embedding": _embedding,
    "eq": jnp.equal,
    "erf": jax.lax.erf,
    "exp": jnp.exp,
    "expand": _expand,
    "expm1": jnp.expm1,
    "full": _full,
    "full_like": _full_like,
    "gather": _gather,
    "ge": jnp.greater_equal,
    "gelu": _gelu,
    "gt": jnp.greater,
    "index": _index,
    "isnan": jnp.isnan,
    "le": jnp.less_equal,
    "leaky_relu": _leaky,
    "lift_fresh_copy": _same,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "logical_and": jnp.logical_and,
    "logical_not": jnp.logical_not,
    "logical_or": jnp.logical_or,
    "lt": jnp.less,
    "max_pool2d_with_indices": _max_pool,
    "maximum": jnp.maximum,
    "mean": _mean,
    "minimum": jnp.minimum,
    "mm": jnp.matmul,
    "mul": jnp.multiply,
    "native_group_norm": _group_norm,
    "native_layer_norm": _layer_norm,
    "ne": jnp.not_equal,
    "neg": jnp.negative,
    "permute": lambda x, dims: jnp.transpose(x, tuple(dims)),
    "pow": jnp.power,
    "reciprocal": jnp.reciprocal,
    "relu": jax.nn.relu,
    "remainder": jnp.remainder,
    "rsqrt": jax.lax.rsqrt,
    "scalar_tensor": _scalar,
    "select": lambda x, dim, index: jax.lax.index_in_dim(x, index, dim, keepdims=False),
    "sigmoid": jax.nn.sigmoid,
    "sign": jnp.sign,
    "sin": jnp.sin,
    "slice": _slice,
    "split_with_sizes": _split,
    "sqrt": jnp.sqrt,
    "squeeze": _squeeze,
    "sub": _sub,
    "sum": _sum,
    "tanh": jnp.tanh,
    "unsqueeze": jnp.expand_dims,
    "var": _var,
    "view": lambda x, size: jnp.reshape(x, tuple(size)),
    "where": jnp.where,
}
"""Name, without the overload → its counterpart."""
