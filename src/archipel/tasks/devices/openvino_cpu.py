"""The processor by OpenVINO (`archipel[openvino]`), which also knows Intel's GPUs and NPUs where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from archipel.spec import TaskError
from archipel.spec.device import Capabilities, Device, DType, Health
from archipel.tasks.devices.host import cpu, cpu_capabilities
from archipel.tasks.devices.kernels import Array, Kernel
from archipel.tasks.devices.measuring import known_answer, timed
from archipel.tasks.devices.onnx_kernel import onnx_model
from archipel.tasks.devices.port import Compiled, Profile
from archipel.tasks.extras import require_extra

_PRECISIONS: dict[DType, tuple[str, str]] = {"float32": ("f32", "FP32"), "bfloat16": ("bf16", "BF16")}
"""Type → OpenVINO's hint, and the capability that a processor needs for it."""


class OpenVinoCpu:
    """DeviceAdapter "openvino"."""

    name = "openvino"

    def discover(self) -> tuple[Device, ...]:
        """Return the processor."""
        core = self._core()
        import openvino  # noqa: PLC0415 (an extra)

        assert "CPU" in core.available_devices, "OpenVINO comes with its plug-in for processors"
        return (cpu(self.name, f"openvino {openvino.__version__.partition('-')[0]}"),)

    def capabilities(self, device: Device) -> Capabilities:
        """Measure on as many threads as OpenVINO takes by itself."""
        return cpu_capabilities(self, device, ("float32", "bfloat16"))

    def compile(self, device: Device, kernel: Kernel) -> Compiled:
        """Compile the kernel's ONNX model; in bfloat16 the model stays in float32 and is computed in halves."""
        core = self._core()
        precision, needed = _PRECISIONS.get(kernel.dtype, ("", ""))
        if needed not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise TaskError(f"OpenVINO does not compute in {kernel.dtype} here", hint="use float32")
        model = core.read_model(onnx_model(Kernel(kernel.what, "float32", kernel.size)))
        hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        return Compiled(device=device, kernel=kernel, call=core.compile_model(model, "CPU", hints))

    def run(self, compiled: Compiled, inputs: Mapping[str, Array]) -> Array:
        """Compute."""
        compiled.kernel.require(inputs)
        found: Array = np.array(compiled.call(dict(inputs))[0])
        return found

    def profile(self, compiled: Compiled, inputs: Mapping[str, Array], seconds: float) -> Profile:
        """Time runs."""
        compiled.kernel.require(inputs)
        request = compiled.call.create_infer_request()
        given = dict(inputs)
        return timed(lambda: request.infer(given, share_inputs=True, share_outputs=True), seconds)

    def health(self, device: Device) -> Health:
        """Compute a known answer."""
        return known_answer(self, device)

    def _core(self) -> Any:
        require_extra("openvino", 'the device adapter "openvino"')
        import openvino  # noqa: PLC0415

        return openvino.Core()
