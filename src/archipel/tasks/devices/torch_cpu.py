"""The processor by PyTorch (`archipel[torch]`): what a torch job's worker computes with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archipel.spec import TaskError
from archipel.spec.device import Capabilities, Device, Health
from archipel.tasks.devices.host import cpu, cpu_capabilities
from archipel.tasks.devices.kernels import Array, Kernel
from archipel.tasks.devices.measuring import known_answer, timed
from archipel.tasks.devices.port import Compiled, Profile
from archipel.tasks.extras import require_extra


class TorchCpu:
    """DeviceAdapter "torch"."""

    name = "torch"

    def discover(self) -> tuple[Device, ...]:
        """Return the processor."""
        require_extra("torch", 'the device adapter "torch"')
        import torch  # noqa: PLC0415 (frameworks load when they are asked for)

        return (cpu(self.name, f"torch {torch.__version__}"),)

    def capabilities(self, device: Device) -> Capabilities:
        """Measure on as many threads as torch takes by itself."""
        return cpu_capabilities(self, device, ("float32", "float64", "bfloat16", "float16"))

    def compile(self, device: Device, kernel: Kernel) -> Compiled:
        """Make the kernel a function of tensors on the processor."""
        return compiled_on(device, kernel, "cpu")

    def run(self, compiled: Compiled, inputs: Mapping[str, Array]) -> Array:
        """Compute, and bring the answer back."""
        return answer_of(compiled, inputs)

    def profile(self, compiled: Compiled, inputs: Mapping[str, Array], seconds: float) -> Profile:
        """Time runs."""
        compiled.kernel.require(inputs)
        given = compiled.call.place(inputs)
        return timed(lambda: compiled.call(given), seconds)

    def health(self, device: Device) -> Health:
        """Compute a known answer."""
        return known_answer(self, device)


def compiled_on(device: Device, kernel: Kernel, place: str) -> Compiled:
    """Make a kernel ready for one of torch's devices: "cpu", or "cuda:0"."""
    from archipel.tasks.devices.torch_kernel import TorchKernel  # noqa: PLC0415

    return Compiled(device=device, kernel=kernel, call=TorchKernel(kernel, place), memory_bytes=kernel.moved_bytes)


def answer_of(compiled: Compiled, inputs: Mapping[str, Array]) -> Array:
    """Run a torch kernel from arrays to an array.

    Raises:
        TaskError: torch refuses the type of its numbers on this device.
    """
    compiled.kernel.require(inputs)
    call: Any = compiled.call
    try:
        return call.fetch(call(call.place(inputs)), compiled.kernel.border)  # type: ignore[no-any-return]
    except RuntimeError as error:
        raise TaskError(f"torch cannot compute {compiled.kernel}: {error}", hint="use float32") from error
