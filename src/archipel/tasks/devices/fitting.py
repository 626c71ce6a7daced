"""A task's training step compiled for devices that are not here: does it fit, and what do they say to each other?

    for fit in fit_step(step, rows=512): print(fit.device, fit.fits, fit.collectives)
    drift_over(step, start, devices=8)             # the same program, executed on a mesh of the processor's

What a TPU computes is not told: XLA compiles one program for both, and here it is executed on the processor alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from archipel.spec import StateError
from archipel.spec.device import Device, DType, StepFit
from archipel.tasks.devices.tpu import CHIPS, Tpu, devices_of
from archipel.tasks.devices.xla_cpu import facts_of
from archipel.tasks.port import Vector
from archipel.tasks.xla.training_step import TrainingStep

MESH = 8
"""Devices that the processor is divided into."""
MESH_FLAG = "--xla_force_host_platform_device_count"
_COLLECTIVE = re.compile(r"= [^=]*? (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


def fit_step(step: TrainingStep, rows: int, dtype: DType = "bfloat16") -> Iterator[StepFit]:
    """Yield what the step over `rows` takes on the smallest slice of each kind of TPU.

    Raises:
        MissingExtraError: JAX or libtpu is not installed.
        ShapeError: the rows cannot be divided among the cores.
    """
    for device in Tpu().discover():
        yield _fit(step, device, rows, dtype)


def _fit(step: TrainingStep, device: Device, rows: int, dtype: DType) -> StepFit:
    cores = devices_of(device)
    made = step.lowered(cores, rows, dtype).compile()
    facts = facts_of(made)
    chip = CHIPS[device.name]
    return StepFit(
        device=device.name,
        topology=chip.topology,
        label=device.label,
        backing=device.backing,
        cores=len(cores),
        rows=rows,
        dtype=dtype,
        needed_bytes=facts["memory_bytes"],
        available_bytes=chip.memory / chip.cores,
        flop=facts.get("flop"),
        collectives=collectives_of(made.as_text()),
    )


def collectives_of(program: str) -> dict[str, int]:
    """Count the operations between devices in the text of a compiled program.

    >>> collectives_of("%a = f32[8]{0} all-reduce(%b), to_apply=%sum")
    {'all-reduce': 1}
    """
    return dict(sorted(Counter(_COLLECTIVE.findall(program)).items()))


def drift_over(step: TrainingStep, start: Vector, devices: int = MESH) -> float:
    """Take one step on a mesh of the processor and on one device; return how far the weights are apart, relative.

    Raises:
        StateError: JAX was started without so many devices (XLA_FLAGS=--xla_force_host_platform_device_count=8).
    """
    import jax  # noqa: PLC0415 (frameworks load when they are asked for)

    mesh: list[Any] = jax.devices("cpu")
    if len(mesh) < devices:
        raise StateError(f"{len(mesh)} devices of {devices}", hint=f"set XLA_FLAGS={MESH_FLAG}={devices}")
    held = min(len(array) for array in step.samples.values())
    taken = np.arange(held // devices * devices or devices) % held
    batch = {name: array[taken] for name, array in step.samples.items()}
    rate = step.local.learning_rate
    many, _ = step.taken(mesh[:devices], start, batch, rate, "float32")
    one, _ = step.taken(mesh[:1], start, batch, rate, "float32")
    return float(np.max(np.abs(many - one)) / max(float(np.max(np.abs(one - start))), 1e-30))
