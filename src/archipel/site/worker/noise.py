"""The secret of a task's noise, under differential privacy for examples: of the site's own one and the task."""

from __future__ import annotations

from pathlib import Path

from archipel.security.privacy import kept_secret, run_secret
from archipel.spec import RoundTask, digest_value

NOISE_KEY = "noise.key"


def noise_secret(key: Path, task: RoundTask) -> bytes:
    """Return the secret of one task's noise, by the site's own in the file `key`; it tells nothing of any other."""
    return run_secret(kept_secret(key), digest_value(task))
