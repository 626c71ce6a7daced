"""A small federation: softmax regression on handwritten digits, 20 sites, 60 rounds of five full-batch steps each.

Sites' steps are computed side by side in numpy; what becomes of their updates is the product's own fold.
"""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.federated.algorithms import FedAvg
from archipel.federated.fold import fold_arrays
from archipel.federated.port import RoundFacts
from archipel.federated.robust.robust import Robust
from environments import environment
from robust.attacks import ATTACKS, LABEL_FLIP, LENGTHS

Array = npt.NDArray[Any]
SITES, LIARS, CLASSES, ROUNDS, STEPS = 20, 4, 10, 60, 5
LEARNING_RATE = 0.3
_SAVE = "import sys, numpy as np; from sklearn.datasets import load_digits; d = load_digits(); np.savez(sys.argv[1], x=d.data, y=d.target)"  # noqa: E501


@functools.cache
def digits() -> tuple[Array, Array, Array, Array]:
    """Return scikit-learn's digits, one in five held out: rows (n, 65) with a 1 at the end, and labels, twice."""
    python = environment("robust", "scikit-learn==1.9.1")
    file = python.parents[1] / "digits.npz"
    if not file.exists():
        subprocess.run([str(python), "-c", _SAVE, str(file)], check=True)
    with np.load(Path(file)) as found:
        rows = np.hstack([found["x"] / 16, np.ones((len(found["x"]), 1))]).astype(np.float32)
        labels = found["y"]
    order = np.random.default_rng(0).permutation(len(rows))
    held_out, kept = order[::5], np.delete(order, np.s_[::5])
    return rows[kept], labels[kept], rows[held_out], labels[held_out]


def dealt(labels: Array, alpha: float | None, chance: np.random.Generator) -> list[Array]:
    """Deal rows to the sites: evenly, or each class by a Dirichlet draw with this concentration."""
    if alpha is None:
        return np.array_split(chance.permutation(len(labels)), SITES)
    sites: list[list[int]] = [[] for _ in range(SITES)]
    for kind in range(CLASSES):
        members = chance.permutation(np.flatnonzero(labels == kind))
        cuts = (np.cumsum(chance.dirichlet([alpha] * SITES))[:-1] * len(members)).astype(int)
        for site, part in zip(sites, np.split(members, cuts), strict=True):
            site.extend(part)
    return [np.array(site, np.int64) for site in sites]


def accuracy(robust: Robust | None, attack: str, alpha: float | None, seed: int, liars: int = LIARS) -> float:
    """Train under an attack by the first `liars` sites; return the accuracy on held-out rows."""
    rows, labels, held_out, truth = digits()
    chance = np.random.default_rng((seed, 7))
    x, y, share = _stacked(rows, labels, dealt(labels, alpha, chance))
    if attack == LABEL_FLIP:
        y[:liars] = y[:liars, :, ::-1]
    model = np.zeros(x.shape[2] * CLASSES, np.float32)
    lie = {**ATTACKS, **LENGTHS}[attack]
    for step in range(1, ROUNDS + 1):
        deltas = _deltas(model, x, y, share)
        if lie is not None:
            deltas[:liars] = lie(deltas[liars:], deltas[:liars].copy(), chance)
        updates = {f"s{site:02}": (1.0, {"delta": delta}) for site, delta in enumerate(deltas)}
        facts = RoundFacts(step=step, cohort=SITES, population=SITES)
        model, _ = fold_arrays(FedAvg({}), facts, updates, model, robust=robust)
    found = (held_out @ model.reshape(-1, CLASSES)).argmax(axis=1)
    return float((found == truth).mean())


def _stacked(rows: Array, labels: Array, sites: list[Array]) -> tuple[Array, Array, Array]:
    """Lay the sites' rows side by side, padded; a padded row has no share in its site's mean."""
    most = max(map(len, sites))
    x = np.zeros((SITES, most, rows.shape[1]), np.float32)
    y = np.zeros((SITES, most, CLASSES), np.float32)
    share = np.zeros((SITES, most, 1), np.float32)
    for place, members in enumerate(sites):
        x[place, : len(members)] = rows[members]
        y[place, np.arange(len(members)), labels[members]] = 1
        share[place, : len(members)] = 1 / max(1, len(members))
    return x, y, share


def _deltas(model: Array, x: Array, y: Array, share: Array) -> Array:
    start = model.reshape(1, -1, CLASSES)
    weights = np.repeat(start, SITES, axis=0)
    for _ in range(STEPS):
        logits = x @ weights
        logits -= logits.max(axis=2, keepdims=True)
        odds = np.exp(logits)
        odds /= odds.sum(axis=2, keepdims=True)
        weights -= np.float32(LEARNING_RATE) * (x.transpose(0, 2, 1) @ ((odds - y) * share))
    return (weights - start).reshape(SITES, -1)
