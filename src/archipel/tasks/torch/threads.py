"""Where torch computes, and how: one thread, deterministic algorithms, random draws from a seed that is given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from archipel.spec import StateError
from archipel.tasks.randomness import seeded_draws

_AMPERE = (8, 0)
"""The first of NVIDIA's generations that multiplies bfloat16."""
_WORTH = 2**23
"""Multiplications from which bfloat16 is faster. Steps on one core with avx512_bf16, float32 over bfloat16: 64 wide
with 64 rows 0.5; 256 with 32 rows 0.7; 128 with 512 rows 1.2; 512 with 32 rows 1.2; 1024 with 512 rows 2.9."""


def settle_torch() -> None:
    """Hold this process to one thread and to algorithms that give the same bits each time."""
    # cuBLAS reads this when it starts; without it deterministic algorithms refuse matrix products.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    # torch.use_deterministic_algorithms loads torch.compile's back end to set one switch there: 5 CPU-seconds more in
    # every process (torch 2.13). This sets the same mode; the back end reads the variable if a task ever loads it.
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    torch.set_deterministic_debug_mode("error")


def choose_device(wanted: str) -> torch.device:
    """Return the device for "auto" (CUDA where present), "cpu" or "cuda"."""
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise StateError(
            "this job needs a CUDA device and this site has none", hint='set device = "auto" in [resources]'
        )
    if wanted not in {"auto", "cpu", "cuda"}:
        raise StateError(f"unknown device {wanted!r}", hint='use "auto", "cpu" or "cuda"')
    return torch.device("cuda" if present and wanted != "cpu" else "cpu")


def choose_precision(wanted: str, device: torch.device, largest: int) -> torch.dtype | None:
    """Return the type of products for "exact" (None: as the weights are) or "auto".

    What decides is the multiplications of the `largest` one, and what the device is made for; no measurement: a site
    that goes on after a crash must choose again what it chose before.
    """
    if wanted not in {"exact", "auto"}:
        raise StateError(f"unknown precision {wanted!r}", hint='use "exact" or "auto"')
    if wanted == "exact" or largest < _WORTH:
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= _AMPERE else None
    made_for: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older ones do not say
    return torch.bfloat16 if made_for.get("avx512_bf16") or made_for.get("amx_bf16") else None


@contextmanager
def seeded(seed: int | Sequence[int], device: torch.device) -> Iterator[None]:
    """Draw torch's, numpy's and Python's random numbers from `seed` inside the block; the streams outside go on."""
    # torch.manual_seed would note down a call for CUDA each time, with a traceback, on machines that have none.
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        generators.append(torch.cuda.default_generators[torch.cuda.current_device()])
    before = [generator.get_state() for generator in generators]
    with seeded_draws(seed) as number:
        for generator in generators:
            generator.manual_seed(number & (2**63 - 1))
        try:
            yield
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)
