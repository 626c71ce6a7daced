"""The contenders: each adds up the same updates with the same weights, on one core.

All work on the same distinct buffers, so that together they are far larger than any cache, and write into memory
they allocated before the clock starts. `read` is the limit: it touches every value once and does next to nothing
with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.federated.algorithms import algorithm_of
from archipel.federated.blocks import ArrayBlocks, FileBlocks, TensorFile
from archipel.federated.contribution import Contribution
from archipel.federated.fold import MODEL, fold
from archipel.federated.port import RoundFacts
from archipel.spec import header_bytes, manifest_of
from archipel.spec.job import FederationSpec

Vector = npt.NDArray[np.float32]
Contender = Callable[[], Vector | None]


def read_limit(updates: Sequence[Vector]) -> Contender:
    """Read every value once: dot products with a vector that stays in the cache, by BLAS on one thread."""
    block = 16_384
    ones = np.ones(block, np.float32)

    def run() -> None:
        for update in updates:
            whole = update.size // block * block
            np.dot(update[:whole].reshape(-1, block), ones)

    return run


def archipel_memory(updates: Sequence[Vector], weights: Sequence[float]) -> Contender:
    """Archipel's fold (FedAvg) over arrays; includes the check for NaN, adding the model and writing it."""
    contributions = [
        Contribution(site=f"s{index:03}", weight=weight, parts=ArrayBlocks({"delta": update}))
        for index, (update, weight) in enumerate(zip(updates, weights, strict=True))
    ]
    return _fold(contributions, updates[0].size)


def archipel_files(paths: Sequence[Path], weights: Sequence[float], count: int) -> Contender:
    """Archipel's fold over tensor files, which the page cache may hold."""
    contributions = [
        Contribution(
            site=f"s{index:03}", weight=weight, parts=FileBlocks({"delta": TensorFile(partial(path.open, "rb", 0))})
        )
        for index, (path, weight) in enumerate(zip(paths, weights, strict=True))
    ]
    return _fold(contributions, count)


def _fold(contributions: Sequence[Contribution], count: int) -> Contender:
    algorithm = algorithm_of(FederationSpec())
    facts = RoundFacts(step=1, cohort=len(contributions), population=len(contributions))
    source, target = {MODEL: np.zeros(count, np.float32)}, {MODEL: np.zeros(count, np.float32)}

    def run() -> Vector:
        fold(
            algorithm,
            facts,
            contributions,
            model_in=ArrayBlocks(source),
            state_in=None,
            model_out=ArrayBlocks(target),
            state_out=None,
        )
        result: Any = target[MODEL]
        return result

    return run


def numpy_streaming(updates: Sequence[Vector], weights: Sequence[float]) -> Contender:
    """Multiply and add whole vectors with numpy, into memory that is there already."""
    shares = _shares(weights)
    total, product = np.zeros_like(updates[0]), np.zeros_like(updates[0])

    def run() -> Vector:
        np.multiply(updates[0], shares[0], out=total)
        for update, share in zip(updates[1:], shares[1:], strict=True):
            np.multiply(update, share, out=product)
            np.add(total, product, out=total)
        return total

    return run


def numpy_average(updates: Sequence[Vector], weights: Sequence[float]) -> Contender:
    """np.average over a list of arrays: what one writes first. It stacks them all in a new array."""
    return lambda: np.average(updates, axis=0, weights=weights)  # type: ignore[no-any-return]


def torch_add(updates: Sequence[Vector], weights: Sequence[float]) -> Contender | None:
    """Add with torch's add_ and alpha on one thread; None where torch is not installed."""
    try:
        import torch  # noqa: PLC0415 - a peer, where there is one
    except ImportError:
        return None
    torch.set_num_threads(1)
    shares = _shares(weights)
    tensors = [torch.from_numpy(update) for update in updates]
    total = torch.zeros_like(tensors[0])

    def run() -> Vector:
        total.zero_()
        for tensor, share in zip(tensors, shares, strict=True):
            total.add_(tensor, alpha=float(share))
        result: Any = total.numpy()
        return result

    return run


def write_files(folder: Path, updates: Sequence[Vector]) -> list[Path]:
    """Write updates as tensor files."""
    paths = []
    for index, update in enumerate(updates):
        path = folder / f"{index:03}"
        with path.open("wb") as file:
            file.write(header_bytes(manifest_of([("w", update.shape, update.dtype)])))
            file.write(update.data)
        paths.append(path)
    return paths


def _shares(weights: Sequence[float]) -> list[np.float32]:
    return [np.float32(weight / sum(weights)) for weight in weights]
