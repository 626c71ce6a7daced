"""Weights and other named arrays: one contiguous buffer plus a manifest, stored as safetensors-compatible bytes.

The layout is that of the safetensors format (8-byte little-endian header length, JSON header, buffer). Written by
us, so that large files can be read and written in column blocks without holding them in memory, and because the
reference reader accepts two things we refuse: duplicate keys, and (for updates) non-finite numbers.

Rules: names are sorted by the order in which they were given; offsets are contiguous; the header is padded with
spaces to a multiple of 64 bytes, so the buffer of a memory-mapped file is aligned.

Example:
    >>> import numpy as np
    >>> data = pack({"w": np.zeros((2, 3), np.float32)})
    >>> unpack(data)["w"].shape
    (2, 3)
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from archipel.spec.canonical import Value, digest_value
from archipel.spec.errors import NonFiniteError, ShapeError, SpecError

Array = npt.NDArray[Any]
DType = Literal["F64", "F32", "F16", "I64", "I32", "U32", "U8", "BOOL"]

NUMPY_OF: dict[DType, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_DTYPE_OF: dict[np.dtype[Any], DType] = {dtype: name for name, dtype in NUMPY_OF.items()}
_ALIGN = 64
MAX_HEADER_BYTES = 16 * 1024 * 1024


class TensorSpec(Value, frozen=True, kw_only=True):
    """One named array inside a buffer."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the buffer."""

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of this array in the buffer."""
        return self.count * NUMPY_OF[self.dtype].itemsize


class Manifest(Value, frozen=True, kw_only=True):
    """Names, shapes, dtypes and offsets of the arrays in one contiguous buffer."""

    tensors: tuple[TensorSpec, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole buffer."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def digest(self) -> str:
        """Digest of the manifest: two buffers may be added exactly when these are equal."""
        return digest_value(self)

    def uniform_dtype(self) -> np.dtype[Any]:
        """Return the one dtype of all arrays; a ShapeError where they differ (such a buffer cannot be averaged)."""
        kinds = {tensor.dtype for tensor in self.tensors}
        if len(kinds) != 1:
            raise ShapeError(f"one dtype needed, found {sorted(kinds)}", hint="let the adapter cast to one float type")
        return NUMPY_OF[kinds.pop()]


def manifest_of(shapes: Iterable[tuple[str, tuple[int, ...], np.dtype[Any]]]) -> Manifest:
    """Lay out arrays one after another, in the order given."""
    specs: list[TensorSpec] = []
    offset = 0
    for name, shape, dtype in shapes:
        kind = _DTYPE_OF.get(np.dtype(dtype).newbyteorder("<"))
        if kind is None:
            raise ShapeError(f"tensor {name!r} has dtype {dtype}", hint=f"use one of {', '.join(NUMPY_OF)}")
        spec = TensorSpec(name=name, dtype=kind, shape=tuple(int(side) for side in shape), offset=offset)
        specs.append(spec)
        offset += spec.size_bytes
    return Manifest(tensors=tuple(specs))


def header_bytes(manifest: Manifest) -> bytes:
    """Return the safetensors header (length prefix included) that goes before the buffer of `manifest`."""
    entries = {
        tensor.name: {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [tensor.offset, tensor.offset + tensor.size_bytes],
        }
        for tensor in manifest.tensors
    }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGN)
    return len(text).to_bytes(8, "little") + text


def pack(arrays: Mapping[str, Array]) -> bytes:
    """Return safetensors bytes of `arrays`, in the mapping's order."""
    manifest = manifest_of((name, array.shape, array.dtype) for name, array in arrays.items())
    parts = [header_bytes(manifest)]
    parts += [
        np.ascontiguousarray(array, dtype=NUMPY_OF[tensor.dtype]).tobytes()
        for tensor, array in zip(manifest.tensors, arrays.values(), strict=True)
    ]
    return b"".join(parts)


def parse_header(data: bytes | memoryview) -> tuple[Manifest, int]:
    """Read the header at the start of `data`; return the manifest and the byte at which the buffer begins.

    Raises:
        SpecError: if the bytes are truncated, keys repeat, or offsets leave gaps, overlap or disagree with shapes.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > MAX_HEADER_BYTES or len(data) < 8 + size:
        raise SpecError("not a tensor file: its header is cut short or too long", hint="fetch the file again")
    try:
        entries = json.loads(bytes(data[8 : 8 + size]), object_pairs_hook=_refuse_repeats)
        entries.pop("__metadata__", None)
        specs = tuple(_tensor(name, entry) for name, entry in entries.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, msgspec.ValidationError) as error:
        raise SpecError(f"not a tensor file: {error}", hint="fetch the file again") from error
    _check_offsets(specs)
    return Manifest(tensors=specs), 8 + size


def read_header(file: io.RawIOBase) -> tuple[Manifest, int]:
    """Read the header of an open tensor file, and no more of it; see `parse_header`."""
    prefix = file.read(8) or b""
    size = int.from_bytes(prefix, "little")
    return parse_header(prefix + (file.read(min(size, MAX_HEADER_BYTES)) or b""))


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key is repeated in the header")
    return entries


def _tensor(name: str, entry: dict[str, Any]) -> TensorSpec:
    begin, end = entry["data_offsets"]
    spec = msgspec.convert(
        {"name": name, "dtype": entry["dtype"], "shape": entry["shape"], "offset": begin}, TensorSpec
    )
    if any(side < 0 for side in spec.shape) or end - begin != spec.size_bytes:
        raise ValueError(f"offsets of {name!r} disagree with its shape")
    return spec


def _check_offsets(specs: tuple[TensorSpec, ...]) -> None:
    expected = 0
    for spec in sorted(specs, key=lambda tensor: tensor.offset):
        if spec.offset != expected:
            raise SpecError(f"tensor {spec.name!r} leaves a gap or overlaps", hint="fetch the file again")
        expected += spec.size_bytes


def unpack(data: bytes | memoryview) -> dict[str, Array]:
    """Read safetensors bytes as arrays that share memory with `data` (read-only if `data` is)."""
    manifest, start = parse_header(data)
    if len(data) != start + manifest.size_bytes:
        raise SpecError("not a tensor file: its length disagrees with its header", hint="fetch the file again")
    return views(memoryview(data)[start:], manifest)


def views(buffer: memoryview | Array, manifest: Manifest) -> dict[str, Array]:
    """Return each array of `manifest` as a view into `buffer` (bytes, or a uint8 array)."""
    raw = np.frombuffer(buffer, dtype=np.uint8) if isinstance(buffer, memoryview) else buffer.view(np.uint8)
    return {
        tensor.name: raw[tensor.offset : tensor.offset + tensor.size_bytes]
        .view(NUMPY_OF[tensor.dtype])
        .reshape(tensor.shape)
        for tensor in manifest.tensors
    }


def require_finite(name: str, array: Array) -> None:
    """Raise NonFiniteError if `array` holds NaN or infinity; `name` says whose it is."""
    # A sum is finite only if every term is (or it overflows): one pass, in the array's own precision, which is twice
    # as fast as in double, and without a temporary of the same size.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(np.isfinite(np.sum(array)))
    if not finite and not bool(np.isfinite(array).all()):
        raise NonFiniteError(f"{name} holds NaN or infinity", hint="lower the learning rate or clip gradients")
