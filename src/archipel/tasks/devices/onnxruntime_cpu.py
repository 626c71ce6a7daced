"""The processor by ONNX Runtime: what a site serves models with."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime as ort

from archipel.spec import TaskError
from archipel.spec.device import Capabilities, Device, Health
from archipel.tasks.devices.host import cpu, cpu_capabilities
from archipel.tasks.devices.kernels import Array, Kernel
from archipel.tasks.devices.measuring import known_answer, timed
from archipel.tasks.devices.onnx_kernel import in_type, onnx_model
from archipel.tasks.devices.port import Compiled, Profile


class OnnxRuntimeCpu:
    """DeviceAdapter "onnxruntime"."""

    name = "onnxruntime"

    def discover(self) -> tuple[Device, ...]:
        """Return the processor."""
        return (cpu(self.name, f"onnxruntime {ort.__version__}"),)

    def capabilities(self, device: Device) -> Capabilities:
        """Measure on as many threads as the runtime takes by itself."""
        return cpu_capabilities(self, device, ("float32", "float64", "float16"))

    def compile(self, device: Device, kernel: Kernel) -> Compiled:
        """Make a session of the kernel's model."""
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what it cannot load is said by the error
        try:
            session = ort.InferenceSession(onnx_model(kernel), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise TaskError(f"onnxruntime cannot compile {kernel}: {error}", hint="use float32") from error
        return Compiled(device=device, kernel=kernel, call=session)

    def run(self, compiled: Compiled, inputs: Mapping[str, Array]) -> Array:
        """Compute."""
        compiled.kernel.require(inputs)
        [answer] = compiled.call.run(None, in_type(compiled.kernel, dict(inputs)))
        found: Array = answer.astype(compiled.kernel.border)
        return found

    def profile(self, compiled: Compiled, inputs: Mapping[str, Array], seconds: float) -> Profile:
        """Time runs."""
        compiled.kernel.require(inputs)
        given = in_type(compiled.kernel, dict(inputs))
        return timed(lambda: compiled.call.run(None, given), seconds)

    def health(self, device: Device) -> Health:
        """Compute a known answer."""
        return known_answer(self, device)
