"""Rows read off the gradient of a first layer, with no search: a division.

For one row x and a neuron with weights w and bias b, the slopes are dL/dw = g x and dL/db = g with the same g, so

    x = (dL/dw) / (dL/db)

(Phong et al. 2018, "Privacy-Preserving Deep Learning via Additively Homomorphic Encryption", section 3.3; Geiping et
al. 2020, "Inverting Gradients", arXiv:2003.14053, proposition 3.1). In a sum over rows the same holds of each neuron
that is awake for one of them only. Who chooses the weights can see to it that many are (Boenisch et al. 2023, "When the
Curious Abandon Honesty", arXiv:2112.02918): here by biases that wake a neuron for one row in `asleep`.

    model = Model.drawn(chance)                         # or drawn(chance, asleep=100, guess=rows of the attacker's own)
    seen = candidates(model.update(rows, labels))       # (neurons awake, pixels), in [0, 1]
    psnr_of(rows, seen)                                 # decibels, a row: how near the best candidate is
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.security.privacy import NoiseStream, clipped

Array = npt.NDArray[Any]
PIXELS, NEURONS, CLASSES = 64, 256, 10
LEARNING_RATE = 0.1
READABLE = 30.0
"""Decibels from which a row counts as recovered: a mean error of 3 % of full scale a pixel, or less."""


@dataclass(frozen=True)
class Model:
    """A network with one hidden layer of rectified units; softmax cross-entropy."""

    weights: Array
    """(PIXELS, NEURONS), float64."""
    biases: Array
    """(NEURONS,), float64."""
    last: Array
    """(NEURONS, CLASSES), float64."""

    @classmethod
    def drawn(cls, chance: np.random.Generator, *, asleep: int | None = None, guess: Array | None = None) -> Model:
        """Draw one as it is usual (He et al. 2015); with `asleep`, one made to be inverted.

        Then a neuron wakes for about one in `asleep` of `guess`, (rows, PIXELS): rows alike, not the victims'.
        """
        weights = chance.normal(0, np.sqrt(2 / PIXELS), (PIXELS, NEURONS))
        biases = np.zeros(NEURONS)
        if asleep is not None:
            assert guess is not None
            biases = -np.quantile(guess @ weights, 1 - 1 / asleep, axis=0)
        return cls(weights, biases, chance.normal(0, np.sqrt(2 / NEURONS), (NEURONS, CLASSES)))

    def gradients(self, rows: Array, labels: Array) -> Array:
        """Return the slopes of each row's loss: (rows, parameters); weights, then biases, then the last layer."""
        before = rows @ self.weights + self.biases
        hidden = np.maximum(before, 0)
        logits = hidden @ self.last
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        odds[np.arange(len(rows)), labels] -= 1
        back = (odds @ self.last.T) * (before > 0)
        parts = (rows[:, :, None] * back[:, None, :], back, hidden[:, :, None] * odds[:, None, :])
        return np.concatenate([part.reshape(len(rows), -1) for part in parts], axis=1)

    def update(self, rows: Array, labels: Array) -> Array:
        """Return the update of one step on all rows, float32: the rate times the mean gradient, down the slope."""
        found: Array = (-LEARNING_RATE * self.gradients(rows, labels).mean(axis=0)).astype(np.float32)
        return found

    def trained(self, rows: Array, labels: Array, *, epochs: int, batch_size: int) -> Array:
        """Return the update of several epochs in batches, as a site really trains."""
        moved = self
        for _ in range(epochs):
            for first in range(0, len(rows), batch_size):
                some = slice(first, first + batch_size)
                moved = moved.plus(moved.update(rows[some], labels[some]))
        found: Array = (moved.flat() - self.flat()).astype(np.float32)
        return found

    def private_update(self, rows: Array, labels: Array, *, clip_norm: float, noise: float, secret: bytes) -> Array:
        """Return an update of one step of DP-SGD: rows' gradients clipped, noise on their sum."""
        total = sum(clipped(one, clip_norm)[0] for one in self.gradients(rows, labels))
        noisy = NoiseStream(secret, "gradient", 1).add(np.asarray(total), deviation=noise * clip_norm)
        found: Array = (-LEARNING_RATE * noisy / len(rows)).astype(np.float32)
        return found

    def flat(self) -> Array:
        """Return all parameters."""
        return np.concatenate([self.weights.ravel(), self.biases, self.last.ravel()])

    def plus(self, delta: Array) -> Model:
        """Return the model moved by an update."""
        moved = self.flat() + delta
        last = moved[PIXELS * NEURONS + NEURONS :].reshape(NEURONS, CLASSES)
        return Model(moved[: PIXELS * NEURONS].reshape(PIXELS, NEURONS), moved[PIXELS * NEURONS :][:NEURONS], last)


def candidates(update: Array) -> Array:
    """Return what each neuron that moved gives away: (neurons, PIXELS), cut to [0, 1]."""
    weights = update[: PIXELS * NEURONS].reshape(PIXELS, NEURONS).astype(np.float64)
    biases = update[PIXELS * NEURONS :][:NEURONS].astype(np.float64)
    awake = np.abs(biases) > 1e-6 * np.abs(biases).max()
    return np.clip((weights[:, awake] / biases[awake]).T, 0, 1)


def psnr_of(rows: Array, seen: Array) -> Array:
    """Return for each row the peak signal-to-noise ratio of the nearest candidate, decibels; at the most 100."""
    errors = ((rows[:, None, :] - seen[None, :, :]) ** 2).mean(axis=2).min(axis=1)
    found: Array = -10 * np.log10(np.maximum(errors, 1e-10))
    return found
