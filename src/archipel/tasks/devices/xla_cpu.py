"""The processor by XLA (`archipel[jax]`): the compiler that TPUs have, with the same programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from archipel.spec import TaskError
from archipel.spec.device import Capabilities, Device, Health
from archipel.tasks.devices.host import cpu, cpu_capabilities
from archipel.tasks.devices.kernels import Array, Kernel, compute
from archipel.tasks.devices.measuring import known_answer, timed
from archipel.tasks.devices.port import Compiled, Profile
from archipel.tasks.extras import require_extra


class XlaCpu:
    """DeviceAdapter "xla"."""

    name = "xla"

    def discover(self) -> tuple[Device, ...]:
        """Return the processor."""
        require_extra("jax", 'the device adapter "xla"')
        import jax  # noqa: PLC0415 (frameworks load when they are asked for)

        return (cpu(self.name, f"jax {jax.__version__}"),)

    def capabilities(self, device: Device) -> Capabilities:
        """Measure on as many threads as XLA takes by itself."""
        return cpu_capabilities(self, device, ("float32", "float64", "bfloat16", "float16"))

    def compile(self, device: Device, kernel: Kernel) -> Compiled:
        """Compile ahead of time."""
        import jax  # noqa: PLC0415

        with jax.enable_x64(kernel.dtype == "float64"):
            home = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
            asked = {
                name: jax.ShapeDtypeStruct(shape, kernel.dtype, sharding=home)  # type: ignore[no-untyped-call]
                for name, shape in kernel.shapes.items()
            }
            try:
                made = jax.jit(lambda given: compute(kernel.what, given)).lower(asked).compile()
            except Exception as error:
                raise TaskError(f"XLA cannot compile {kernel}: {error}", hint="use float32") from error
        return Compiled(device=device, kernel=kernel, call=made, **facts_of(made))

    def run(self, compiled: Compiled, inputs: Mapping[str, Array]) -> Array:
        """Compute, and bring the answer back."""
        return np.asarray(compiled.call(self._place(compiled, inputs))).astype(compiled.kernel.border)

    def profile(self, compiled: Compiled, inputs: Mapping[str, Array], seconds: float) -> Profile:
        """Time runs."""
        given = self._place(compiled, inputs)
        return timed(lambda: compiled.call(given).block_until_ready(), seconds)

    def health(self, device: Device) -> Health:
        """Compute a known answer."""
        return known_answer(self, device)

    def _place(self, compiled: Compiled, inputs: Mapping[str, Array]) -> dict[str, Any]:
        import jax  # noqa: PLC0415

        kernel = compiled.kernel
        kernel.require(inputs)
        with jax.enable_x64(kernel.dtype == "float64"):
            home = jax.devices("cpu")[0]
            numbers = jax.numpy.dtype(kernel.dtype)
            return {name: jax.device_put(value.astype(numbers), home) for name, value in inputs.items()}


def facts_of(made: Any) -> dict[str, Any]:
    """Return what XLA says of a compiled program, as fields of Compiled."""
    facts: dict[str, Any] = {}
    planned = made.memory_analysis()
    if planned is not None:
        sizes = (planned.argument_size_in_bytes, planned.output_size_in_bytes, planned.temp_size_in_bytes)
        facts["memory_bytes"] = int(sum(sizes))
    costs = made.cost_analysis() or {}
    if costs.get("flops", 0) > 0:
        facts["flop"] = float(costs["flops"])
    return facts
