"""Google's TPUs by their own compiler, ahead of time and without one (`archipel[tpu]`: JAX and libtpu).

A topology names a slice that need not be here; XLA compiles for it and says what the program takes. Nothing runs, so
nothing is measured, and no time is told. Figures of a chip are its maker's.

Figures: https://cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e (peak of bfloat16, capacity and bandwidth of HBM).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archipel.spec import TaskError
from archipel.spec.device import Capabilities, Device, Figure, Health
from archipel.tasks.devices.kernels import Array, Kernel, compute, require_runs
from archipel.tasks.devices.port import Compiled, Profile
from archipel.tasks.devices.xla_cpu import facts_of
from archipel.tasks.extras import require_extra


@dataclass(frozen=True)
class Chip:
    """What the maker states of one chip, and the smallest slice that its compiler knows."""

    topology: str
    bfloat16: float
    """FLOP/s."""
    memory: float
    """Bytes."""
    bandwidth: float
    """B/s."""
    cores: int = 1
    """JAX devices a chip, which share its memory."""


_GIB = 2.0**30
CHIPS = {
    "tpu-v4": Chip("v4:2x2x1", 275e12, 32 * _GIB, 1228e9, cores=2),
    "tpu-v5e": Chip("v5e:2x2", 197e12, 16 * _GIB, 819e9),
    "tpu-v5p": Chip("v5p:2x2x1", 459e12, 95 * _GIB, 2765e9),
    "tpu-v6e": Chip("v6e:2x2", 918e12, 32 * _GIB, 1640e9),
}

_ALONE = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}


class Tpu:
    """DeviceAdapter "tpu"."""

    name = "tpu"

    def discover(self) -> tuple[Device, ...]:
        """Return the kinds of chips that can be compiled for."""
        speak_for_nobody()
        require_extra("jax", 'the device adapter "tpu"')
        require_extra("tpu", 'the device adapter "tpu"')
        import libtpu  # noqa: PLC0415 (an extra)

        backing = f"XLA:TPU, libtpu {libtpu.__version__}"
        return tuple(
            Device(name=name, kind="tpu", adapter=self.name, model=chip.topology, label="compiled", backing=backing)
            for name, chip in CHIPS.items()
        )

    def capabilities(self, device: Device) -> Capabilities:
        """Return what the maker states."""
        chip = CHIPS[device.name]
        how = "one chip, by its maker"
        return Capabilities(
            rates={"bfloat16": Figure(value=chip.bfloat16, source="stated", how=how)},
            memory=Figure(value=chip.memory, source="stated", how=how),
            bandwidth=Figure(value=chip.bandwidth, source="stated", how=how),
        )

    def compile(self, device: Device, kernel: Kernel) -> Compiled:
        """Compile for one core of a chip."""
        import jax  # noqa: PLC0415

        if kernel.dtype == "float64":
            raise TaskError(f"{device.name} has no float64", hint="use bfloat16 or float32")
        home = jax.sharding.SingleDeviceSharding(devices_of(device)[0])
        asked = {
            name: jax.ShapeDtypeStruct(shape, kernel.dtype, sharding=home)  # type: ignore[no-untyped-call]
            for name, shape in kernel.shapes.items()
        }
        try:
            made = jax.jit(lambda given: compute(kernel.what, given)).lower(asked).compile()
        except Exception as error:
            raise TaskError(f"XLA cannot compile {kernel} for {device.name}: {error}", hint="use float32") from error
        return Compiled(device=device, kernel=kernel, call=None, **facts_of(made))

    def run(self, compiled: Compiled, inputs: Mapping[str, Array]) -> Array:
        """Refuse: there is none."""
        require_runs(compiled.device)
        raise AssertionError(f"{inputs} were not refused")

    def profile(self, compiled: Compiled, inputs: Mapping[str, Array], seconds: float) -> Profile:
        """Refuse: there is none."""
        require_runs(compiled.device)
        raise AssertionError(f"{inputs} were not refused for {seconds} s")

    def health(self, device: Device) -> Health:
        """Nothing can be said of a chip that is not here."""
        return Health(state="untested", detail=f"{device.name} is not here")


def devices_of(device: Device) -> list[Any]:
    """Return the JAX devices of the smallest slice of a kind of chip."""
    from jax.experimental import topologies  # noqa: PLC0415

    speak_for_nobody()
    found: list[Any] = topologies.get_topology_desc(CHIPS[device.name].topology, "tpu").devices
    return found


def speak_for_nobody() -> None:
    """Tell libtpu that it is no part of a slice, before JAX finds it.

    Else it asks Google's metadata service who it is, waits for an answer, and complains of none.
    """
    for name, value in _ALONE.items():
        os.environ.setdefault(name, value)
