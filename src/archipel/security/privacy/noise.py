"""Gaussian noise from a secret: the same for the same release, independent for any other, and safe to add to floats.

    noise = NoiseStream(secret, "run-1", "update", 3)          # of training round 3
    noise.add(total, deviation=0.5, start=65_536)              # float64 block of the sum's columns from 65,536 on

Element i of a stream is Box and Muller's normal number of AES-256 block i, under a key that HKDF derives from the
secret and the release's name: any block of columns can be made alone, a fold that is repeated after a crash adds the
same noise, and no noise is drawn twice for the same sum, which would let an observer average it away.

Floating-point numbers are no reals: which of them `sum + noise` can be depends on the sum, and its low bits give it
away (Mironov 2012, doi:10.1145/2382196.2382264; Jin et al. 2022, arXiv:2112.05307). So both are first rounded to one
grid, a power of two near deviation / 2^30: every multiple of it can come from every sum. Rounding moves a sum of a
million columns by less than 1e-6 deviations.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from archipel.security.keys import write_secret

SECRET_BYTES = 32
GRID_BITS = 30
_INFO = "archipel differential privacy noise 1"
Values = npt.NDArray[np.float64]


def fresh_secret() -> bytes:
    """Return a secret of the operating system's own randomness."""
    return secrets.token_bytes(SECRET_BYTES)


def seeded_secret(seed: int) -> bytes:
    """Return the secret of a test: who knows the seed can take the noise off again."""
    return _derived(seed.to_bytes(8, "big"), "seed")


def run_secret(secret: bytes, run: str) -> bytes:
    """Return the secret of one run, of which no other run's follows."""
    return _derived(secret, f"run|{run}")


def kept_secret(path: Path) -> bytes:
    """Return the secret in a file of the owner's alone, made fresh where there is none."""
    if not path.exists():
        beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        write_secret(beside, fresh_secret())
        with contextlib.suppress(FileExistsError):  # of two processes that make one, both take the first
            os.link(beside, path)
        beside.unlink()
    return path.read_bytes()


class NoiseStream:
    """Standard normal numbers, by position."""

    def __init__(self, secret: bytes, *release: str | int) -> None:
        """`release` names the sum the noise is for: all that tells it from others under this secret."""
        self._key = _derived(secret, "|".join(str(part) for part in release))

    def standard(self, start: int, count: int) -> Values:
        """Return numbers start … start + count, of mean 0 and variance 1, float64."""
        drawn = self._words(start, count)
        uniform = _unit(drawn)
        # The rounding of 64 bits to 53 can give 1 itself, whose logarithm is 0: a normal number all the same.
        normal: Values = np.sqrt(-2.0 * np.log(uniform[:, 0])) * np.cos(2.0 * math.pi * uniform[:, 1])
        return normal

    def uniform(self, start: int, count: int) -> Values:
        """Return numbers start … start + count, evenly spread between 0 and 1, float64.

        `standard` is made of the same ones: a release uses one of the two.
        """
        return _unit(self._words(start, count)[:, 0])

    def _words(self, start: int, count: int) -> npt.NDArray[np.uint64]:
        """Return AES blocks start … start + count, (count, 2)."""
        encryptor = Cipher(algorithms.AES(self._key), modes.CTR(start.to_bytes(16, "big"))).encryptor()
        return np.frombuffer(encryptor.update(bytes(16 * count)), dtype="<u8").reshape(count, 2)

    def add(self, total: Values, *, deviation: float, start: int = 0) -> Values:
        """Return `total` with noise of standard deviation `deviation` on each element, on one grid."""
        return on_grid(total, self.standard(start, total.size), deviation)


def on_grid(total: Values, noise: Values, deviation: float) -> Values:
    """Return `total` and `deviation` times `noise`, both rounded to the grid of `deviation`, added."""
    grid = grid_of(deviation)
    noisy: Values = (np.rint(total / grid) + np.rint(noise * (deviation / grid))) * grid
    return noisy


def grid_of(deviation: float) -> float:
    """Return the power of two that sums and noise are multiples of."""
    return 2.0 ** (math.floor(math.log2(deviation)) - GRID_BITS)


def _unit(words: npt.NDArray[np.uint64]) -> Values:
    found: Values = (words.astype(np.float64) + 0.5) * 2.0**-64
    return found


def _derived(secret: bytes, name: str) -> bytes:
    made: Any = HKDF(algorithm=hashes.SHA256(), length=SECRET_BYTES, salt=None, info=f"{_INFO}|{name}".encode())
    return bytes(made.derive(secret))
