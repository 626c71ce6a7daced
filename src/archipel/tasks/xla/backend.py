"""Where XLA computes, and how: one thread, on a device, in single or double precision for the length of a block.

Example:
    settle_xla()                                  # before the first computation of the process
    with computing(double=False):
        …                                         # JAX's configuration outside of the block is left alone
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from archipel.spec import StateError

ONE_THREAD = ("--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1")


def settle_xla() -> None:
    """Hold XLA to one thread a computation; processes are how cores are used.

    More threads cost CPU time on small models, and would add in an order that depends on how many there are. XLA reads
    the variable when it starts; what an operator has set there stays.
    """
    given = os.environ.get("XLA_FLAGS", "")
    added = [flag for flag in ONE_THREAD if flag.partition("=")[0] not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *added]).strip()


def choose_device(wanted: str) -> jax.Device:
    """Return the device for "auto" (whatever JAX prefers), "cpu" or "cuda".

    Raises:
        StateError: there is no such device.
    """
    if wanted not in {"auto", "cpu", "cuda"}:
        raise StateError(f"unknown device {wanted!r}", hint='use "auto", "cpu" or "cuda"')
    try:
        return jax.devices(None if wanted == "auto" else wanted)[0]
    except RuntimeError as error:
        raise StateError(
            f"this job needs a {wanted.upper()} device and JAX finds none here",
            hint='set device = "auto" in [resources], or install the jax plugin for it',
        ) from error


@contextmanager
def computing(*, double: bool, device: jax.Device | None = None) -> Iterator[None]:
    """Compute inside the block on `device` (None: JAX's own choice), with 64-bit types or without."""
    with jax.enable_x64(double), jax.default_device(device):
        yield
