"""Is an update what it says? Looked at before it counts, block by block, so that memory stays flat.

The bytes of each shared part were checked against their digest when they came; here their size, header and manifest
are held against the update's own words, and every floating-point number must be finite: an update that is counted
can be folded. Only a robust rule takes others in: it leaves out as many as the job tolerates.
"""

from __future__ import annotations

import io
import os

import numpy as np

from archipel.data.stores.spool import Spool
from archipel.spec import Part, ShapeError, StateError, Update
from archipel.spec.tensors import NUMPY_OF, TensorSpec, read_header, require_finite

BLOCK_BYTES = 256 * 1024
"""Read and then summed at a time, in the second-level cache (measured: two sevenths less CPU than with 4 MiB)."""


def verify(update: Update, spool: Spool, *, finite: bool = True) -> None:
    """Check every shared part; `finite`: whether NaN and infinity are refused here.

    Raises:
        StateError: a part's bytes are not here; the site sends them again.
        SpecError, ShapeError: they are not tensors, or others than the update says.
        NonFiniteError: they hold NaN or infinity.
    """
    for name, part in sorted(update.parts.items()):
        if part.shared:
            _verify_part(f"part {name!r} of {update.site}", part, spool, finite=finite)


def _verify_part(what: str, part: Part, spool: Spool, *, finite: bool) -> None:
    if not spool.has(part.blob.digest):
        hint = "offer the blob again; it is fetched from where it stopped"
        raise StateError(f"the bytes of {what} are not here", hint=hint)
    with spool.open(part.blob.digest) as file:
        size = file.seek(0, os.SEEK_END)
        if size != part.blob.size_bytes:
            raise ShapeError(f"{what} is {size} bytes long, not {part.blob.size_bytes}", hint="send it again")
        if part.manifest is None:
            return
        file.seek(0)
        manifest, start = read_header(file)
        if manifest.digest != part.manifest or size != start + manifest.size_bytes:
            raise ShapeError(
                f"{what} holds other tensors than it says", hint="run the same archipel version everywhere"
            )
        for tensor in manifest.tensors:
            if finite and np.issubdtype(NUMPY_OF[tensor.dtype], np.floating):
                _require_finite(what, file, start, tensor)


def _require_finite(what: str, file: io.RawIOBase, start: int, tensor: TensorSpec) -> None:
    dtype = NUMPY_OF[tensor.dtype]
    buffer = np.empty(max(1, min(tensor.size_bytes, BLOCK_BYTES) // dtype.itemsize), dtype)
    file.seek(start + tensor.offset, os.SEEK_SET)
    left = tensor.count
    while left:
        block = buffer[: min(left, len(buffer))]
        if file.readinto(block.data.cast("B")) != block.nbytes:
            raise ShapeError(f"{what} is cut short", hint="send it again")
        require_finite(what, block)
        left -= len(block)


def tensor_names(file: io.RawIOBase) -> tuple[str, ...]:
    """Return the names of the arrays in an open tensor file."""
    manifest, _ = read_header(file)
    return tuple(tensor.name for tensor in manifest.tensors)
