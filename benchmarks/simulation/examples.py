"""The examples: 1,000 clients of log-normal size, skewed labels, a shift of each client's own.

Images are smooth class prototypes + the client's shift + pixel noise; sequences are words whose frequencies depend on
the class. They lie in a folder as x.npy, y.npy, client.npy, test_x.npy, test_y.npy, which every contender reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simulation.job.models import CLASSES, SIDE, WORDS

Array = npt.NDArray[Any]
CLIENTS, MEAN_ROWS, SIGMA, FEWEST, MOST, SKEW = 1000, 60, 0.6, 5, 400, 0.5
LENGTH, TEST_ROWS = 32, 2000


def write_examples(name: str, folder: Path, seed: int = 0) -> None:
    """Make the examples of a workload."""
    rng = np.random.default_rng(seed)
    classes = CLASSES[name]
    sizes = _sizes(rng, sigma=0.0 if name == "flute" else SIGMA)
    shares = rng.dirichlet(np.full(classes, SKEW), CLIENTS)
    labels = np.concatenate([rng.choice(classes, size, p=share) for size, share in zip(sizes, shares, strict=True)])
    clients = np.repeat([f"c{number:04d}" for number in range(CLIENTS)], sizes)
    tested = rng.integers(0, classes, TEST_ROWS)
    draw = _sequences if name in {"gru", "transformer"} else _images
    train, test = draw(rng, classes, labels, sizes), draw(rng, classes, tested, np.ones(TEST_ROWS, np.int64))
    write(folder, {"x": train, "y": labels, "client": clients, "test_x": test, "test_y": tested})


def write(folder: Path, arrays: dict[str, Array]) -> None:
    """Write each array to a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def _sizes(rng: np.random.Generator, sigma: float) -> Array:
    drawn = rng.lognormal(np.log(MEAN_ROWS) - sigma**2 / 2, sigma, CLIENTS)
    return np.clip(np.round(drawn) if sigma == 0 else drawn, FEWEST, MOST).astype(np.int64)


def _images(rng: np.random.Generator, classes: int, labels: Array, sizes: Array) -> Array:
    coarse = np.random.default_rng(1).normal(size=(classes, 7, 7))
    prototypes = np.kron(coarse, np.ones((4, 4))).reshape(classes, -1)
    shifts = np.repeat(rng.normal(scale=0.3, size=(len(sizes), SIDE * SIDE)).astype(np.float32), sizes, axis=0)
    noise = rng.normal(scale=1.5, size=(len(labels), SIDE * SIDE))
    return (0.5 * prototypes[labels] + shifts + noise).astype(np.float32)


def _sequences(rng: np.random.Generator, classes: int, labels: Array, sizes: Array) -> Array:  # noqa: ARG001
    frequent = np.random.default_rng(1).dirichlet(np.full(WORDS, 0.3), classes)
    edges = np.cumsum(frequent, axis=1)
    drawn = rng.random((len(labels), LENGTH))
    found = [np.searchsorted(edges[label], row) for label, row in zip(labels, drawn, strict=True)]
    return np.minimum(np.array(found), WORDS - 1).astype(np.int64)
