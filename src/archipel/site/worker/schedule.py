"""Learning rates over rounds, and the random streams of a site's work.

    constant   rate
    linear     rate * (1 - t)
    cosine     rate * (1 + cos(pi * t)) / 2

where t runs from 0 at the first round after the warm-up to 1 as the last round ends, so that the last round still
moves. During the warm-up the rate rises in equal steps: rate * step / (warmup + 1).

Example:
    >>> from archipel.spec import LocalTraining
    >>> local = LocalTraining(learning_rate=1.0, schedule="linear")
    >>> [learning_rate(local, step, rounds=4) for step in (1, 2, 3, 4)]
    [1.0, 0.75, 0.5, 0.25]
"""

from __future__ import annotations

import hashlib
import math

from archipel.spec import LocalTraining


def learning_rate(local: LocalTraining, step: int, rounds: int) -> float:
    """Return the learning rate of training round `step` (from 1) of `rounds`."""
    if step <= local.warmup_rounds:
        return local.learning_rate * step / (local.warmup_rounds + 1)
    if local.schedule == "constant":
        return local.learning_rate
    passed = (step - 1 - local.warmup_rounds) / max(1, rounds - local.warmup_rounds)
    factor = 1 - passed if local.schedule == "linear" else (1 + math.cos(math.pi * passed)) / 2
    return local.learning_rate * factor


def stream(seed: int, step: int, site: str) -> tuple[int, ...]:
    """Return the entropy of a site's work in training round `step`: equal arguments, equal random numbers."""
    name = int.from_bytes(hashlib.sha256(site.encode()).digest()[:8], "little")
    return (seed, step, name)
