"""The port of this folder: what a kind of hardware provides (DeviceAdapter), so that all of it looks alike.

    [device, *_] = adapter.discover()
    compiled = adapter.compile(device, Kernel("product", "float32", 256))
    answer = adapter.run(compiled, compiled.kernel.inputs(seed=0))
    adapter.profile(compiled, inputs, seconds=0.2).seconds

Laws every adapter keeps (tasks/devices/conformance.py tests them): a program answers as its reference does, within the
precision of its numbers; arguments are left alone; what a device cannot do is refused by name; a device that is only
compiled for never runs and never measures; every figure says how it came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from archipel.spec.device import Capabilities, Device, Figure, Health
from archipel.tasks.devices.kernels import Array, Kernel


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A kernel made ready for one device, and what its compiler says of it."""

    device: Device
    kernel: Kernel
    call: Any
    """The adapter's own; None where the device is only compiled for."""
    memory_bytes: int | None = None
    """Arguments, results and scratch, as its compiler plans them; None: it does not say."""
    flop: float | None = None
    """By its compiler's own count; None: it does not say."""
    collectives: Mapping[str, int] = field(default_factory=dict)
    """Operation between devices → how often the program has it."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What runs of a program took."""

    seconds: float
    """The fastest; arguments and result stay on the device."""
    runs: int
    joules: Figure | None = None
    """Of one run; None: not known."""


class DeviceAdapter(Protocol):
    """A way to reach devices. Built by `tasks.devices.survey.open_device_adapter`."""

    name: str

    def discover(self) -> tuple[Device, ...]:
        """Return the devices there are, the same in each call; nothing is measured.

        Raises:
            MissingExtraError: what it needs is not installed.
            StateError: it is installed, and finds no device.
        """
        ...

    def capabilities(self, device: Device) -> Capabilities:
        """Measure what a device can do, in seconds; of one that never runs, return what is stated."""
        ...

    def compile(self, device: Device, kernel: Kernel) -> Compiled:
        """Make a kernel ready.

        Raises:
            TaskError: the device or its compiler cannot compute it; names the type or what is missing.
            StateError: the device is only selected.
        """
        ...

    def run(self, compiled: Compiled, inputs: Mapping[str, Array]) -> Array:
        """Return the kernel's result as float64 where it computes so, else as float32.

        Raises:
            StateError: the device is compiled for, and not here.
            ShapeError: an input is missing, or of another shape.
        """
        ...

    def profile(self, compiled: Compiled, inputs: Mapping[str, Array], seconds: float) -> Profile:
        """Run for about so many seconds, at least once after a warm-up; raises as `run` does."""
        ...

    def health(self, device: Device) -> Health:
        """Let the device compute a known answer, and ask its driver."""
        ...
