"""The masked vectors of a sum, added up and unmasked: one vector in memory, whatever the number of sites.

    total = open_total(fold.unmasking, [update.parts["masked"].blob for update in fold.updates], spool)

Vectors are read a piece at a time and added modulo 2^32, which no order changes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable

import msgspec
import numpy as np

from archipel.data.stores.files import READ_BYTES
from archipel.data.stores.spool import Spool
from archipel.federated.secure.vector import Total, decode_total
from archipel.security.secagg import Layout, Levels, apply_masks
from archipel.spec import Blob, Manifest, StateError

MASKED = "masked"
"""The part of an update that is a masked vector: 32-bit words, little-endian."""
CORRECTION = "correction"
"""The part of the helper's answer that is minus the sum of all masks, written in the same way."""
WORD = np.dtype("<u4")


class Unmasking(msgspec.Struct, frozen=True, kw_only=True):
    """How a total of masked vectors is read."""

    layout: Layout
    sums: Manifest
    added: tuple[bytes, ...] = ()
    """Keys of masks to add, made known by the survivors' shares."""
    removed: tuple[bytes, ...] = ()
    """Keys of masks to take away."""
    correction: Blob | None = None
    """The helper's vector: minus the sum of all masks."""


def open_total(unmasking: Unmasking, vectors: Iterable[Blob], spool: Spool) -> Total:
    """Add up the vectors, take the masks off, and return what the sites' answers add up to.

    Raises:
        StateError: a vector is not in the spool, or has another length.
    """
    masked = tuple(vectors)
    total = np.zeros(unmasking.layout.count, WORD)
    for blob in masked if unmasking.correction is None else (*masked, unmasking.correction):
        with spool.open(blob.digest) as file:
            _add(total, file, blob)
    apply_masks(total, added=unmasking.added, removed=unmasking.removed)
    return decode_total(unmasking.layout, unmasking.sums, total, sites=len(masked))


def _add(total: Levels, file: io.RawIOBase, blob: Blob) -> None:
    if file.seek(0, os.SEEK_END) != total.nbytes:
        raise StateError(
            f"the masked vector {blob.digest} has another length", hint="resume the run: it is fetched again"
        )
    file.seek(0)
    piece = READ_BYTES // WORD.itemsize
    for begin in range(0, total.size, piece):
        part = total[begin : begin + piece]
        np.add(part, np.frombuffer(file.read(part.nbytes) or b"", WORD), out=part)
