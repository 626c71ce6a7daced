"""The masked vectors of a sum, added up and unmasked: one vector in memory, whatever the number of sites.

    total = open_total(fold.unmasking, [update.parts["masked"].blob for update in fold.updates], spool)

Vectors are read a piece at a time and added modulo 2^32, which no order changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from archipel.data.stores.spool import READ_BYTES, Spool
from archipel.federated.secure.vector import Total, decode_total
from archipel.security.secagg import Layout, Levels, apply_masks
from archipel.spec import Blob, Manifest, StateError

MASKED = "masked"
"""The part of an update that is a masked vector: 32-bit words, little-endian."""
WORD = np.dtype("<u4")


class Unmasking(msgspec.Struct, frozen=True, kw_only=True):
    """How a total of masked vectors is read. The keys are those of masks that the survivors' shares made known."""

    layout: Layout
    sums: Manifest
    added: tuple[bytes, ...]
    removed: tuple[bytes, ...]


def open_total(unmasking: Unmasking, vectors: Iterable[Blob], spool: Spool) -> Total:
    """Add up the vectors, take the masks off, and return what the sites' answers add up to.

    Raises:
        StateError: a vector is not in the spool, or has another length.
    """
    total, sites = np.zeros(unmasking.layout.count, WORD), 0
    for blob in vectors:
        _add(total, spool.require(blob.digest))
        sites += 1
    apply_masks(total, added=unmasking.added, removed=unmasking.removed)
    return decode_total(unmasking.layout, unmasking.sums, total, sites=sites)


def _add(total: Levels, path: Path) -> None:
    if path.stat().st_size != total.nbytes:
        raise StateError(
            f"the masked vector {path.name} has another length", hint="resume the run: it is fetched again"
        )
    piece = READ_BYTES // WORD.itemsize
    with path.open("rb") as file:
        for begin in range(0, total.size, piece):
            part = total[begin : begin + piece]
            np.add(part, np.frombuffer(file.read(part.nbytes), WORD), out=part)
