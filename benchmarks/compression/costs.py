"""CPU time of writing an update and of reading it again, a block of 65,536 columns at a time, as a fold does.

costs()      # kind → nanoseconds a value: (encode, decode), the least of five
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from archipel.data.compression.choice import codec
from archipel.data.compression.port import taker
from archipel.federated.means import BLOCK
from archipel.spec import manifest_of
from archipel.spec.compression import CompressionKind, CompressionSpec

SIDE = 2048
TURNS = 5
KINDS: tuple[CompressionKind, ...] = ("int8", "int4", "top-k", "low-rank")


def costs() -> dict[str, tuple[float, float]]:
    """Measure each kind, with the options a job has as if left out, on one float32 matrix and one thread."""
    with threadpool_limits(1):
        return {kind: _cost(kind) for kind in KINDS}


def _cost(kind: CompressionKind) -> tuple[float, float]:
    made, model = codec(CompressionSpec(), kind), manifest_of([("w", (SIDE, SIDE), np.dtype(np.float32))])
    assert made is not None
    vector = np.random.default_rng(0).standard_normal(SIDE * SIDE).astype(np.float32)
    tensors, out = made.encode(vector, model, np.random.default_rng(1)), np.empty(BLOCK, np.float32)

    def decode() -> None:
        for start in range(0, vector.size, BLOCK):
            made.decode(taker(tensors), model, start, out)

    return _nanoseconds(lambda: made.encode(vector, model, np.random.default_rng(1))), _nanoseconds(decode)


def _nanoseconds(work: Callable[[], object]) -> float:
    took = []
    for _ in range(TURNS):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took) / (SIDE * SIDE) * 1e9
