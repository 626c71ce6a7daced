"""The secrets of a site's noise under differential privacy: of its own one, and of what the noise is for."""

from __future__ import annotations

from pathlib import Path

from archipel.security.privacy import kept_secret, run_secret
from archipel.spec import RoundTask, digest_value

NOISE_KEY = "noise.key"


def noise_secret(key: Path, task: RoundTask) -> bytes:
    """Return the secret of one task's noise, by the site's own in the file `key`; it tells nothing of any other."""
    return run_secret(kept_secret(key), digest_value(task))


def sum_secret(key: Path, task: RoundTask, number: int) -> bytes:
    """Return the secret of a site's share of noise in a secure sum: the same for each attempt at it."""
    return run_secret(kept_secret(key), f"{task.run}|sum {number}|{task.site}")
