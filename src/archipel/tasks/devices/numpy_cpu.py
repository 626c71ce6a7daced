"""The processor by numpy and its BLAS: always there, so that a base install can say what its machine does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from archipel.spec import TaskError
from archipel.spec.device import Capabilities, Device, Health
from archipel.tasks.devices.host import cpu, cpu_capabilities
from archipel.tasks.devices.kernels import Array, Kernel, compute
from archipel.tasks.devices.measuring import known_answer, measured_rate, timed
from archipel.tasks.devices.port import Compiled, Profile


class NumpyCpu:
    """DeviceAdapter "numpy"."""

    name = "numpy"

    def discover(self) -> tuple[Device, ...]:
        """Return the processor."""
        return (cpu(self.name, f"numpy {np.__version__}"),)

    def capabilities(self, device: Device) -> Capabilities:
        """Measure on all cores, and on one."""
        with threadpool_limits(limits=1):
            serial = measured_rate(self, device, "float32")
        return cpu_capabilities(self, device, ("float32", "float64"), serial)

    def compile(self, device: Device, kernel: Kernel) -> Compiled:
        """Take the kernel as it is; numpy multiplies halves number by number, which is refused."""
        if kernel.dtype not in {"float32", "float64"}:
            raise TaskError(f"numpy has no fast {kernel.dtype}", hint="use float32, or another adapter")
        return Compiled(device=device, kernel=kernel, call=compute, memory_bytes=kernel.moved_bytes)

    def run(self, compiled: Compiled, inputs: Mapping[str, Array]) -> Array:
        """Compute."""
        compiled.kernel.require(inputs)
        return np.asarray(compute(compiled.kernel.what, inputs))

    def profile(self, compiled: Compiled, inputs: Mapping[str, Array], seconds: float) -> Profile:
        """Time runs."""
        return timed(lambda: self.run(compiled, inputs), seconds)

    def health(self, device: Device) -> Health:
        """Compute a known answer."""
        return known_answer(self, device)
