"""OpenCL devices (`archipel[opencl]`), GPUs of any maker among them; PoCL stands in for one on the processor.

The kernels add in a fixed order and never fuse a product with a sum, so their bits follow from IEEE 754 and this file:
what PoCL computes is what every conforming device does. Written to be right everywhere, not to be fast: rates are
those of these kernels.

Language: The OpenCL C Specification, Khronos, sections 6.9.7 (FP_CONTRACT) and 7 (numerical compliance).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archipel.spec import StateError, TaskError
from archipel.spec.device import Capabilities, Device, DType, Figure, Health, Label
from archipel.tasks.devices.kernels import CLASSES, FACTOR, FEATURES, HIDDEN, Array, Kernel
from archipel.tasks.devices.measuring import known_answer, measured_bandwidth, measured_rates, timed
from archipel.tasks.devices.port import Compiled, Profile
from archipel.tasks.extras import require_extra

SOURCE = """
#pragma OPENCL FP_CONTRACT OFF
kernel void dense(global const T *x, global const T *w, global const T *b, global T *out, int inner, int last) {
    size_t row = get_global_id(0), column = get_global_id(1), columns = get_global_size(1);
    T sum = 0;
    for (int k = 0; k < inner; ++k) sum = sum + x[row * inner + k] * w[k * columns + column];
    if (last >= 0) sum = sum + b[column];
    out[row * columns + column] = last == 0 && sum < 0 ? 0 : sum;
}
kernel void axpy(global const T *x, global const T *y, global T *out) {
    size_t i = get_global_id(0);
    out[i] = (T)FACTOR * x[i] + y[i];
}
"""
_NO_BIAS, _RELU, _LAST = -1, 0, 1
_TYPES: dict[DType, str] = {"float32": "float", "float64": "double"}
_STAND_INS = ("Portable Computing Language", "Oclgrind")


class OpenCl:
    """DeviceAdapter "opencl"."""

    name = "opencl"

    def discover(self) -> tuple[Device, ...]:
        """Return the devices of all platforms, in their order."""
        return tuple(device for device, _ in self._found())

    def capabilities(self, device: Device) -> Capabilities:
        """Measure these kernels, and ask the device for its memory."""
        memory = float(self._handle(device).global_mem_size)
        return Capabilities(
            rates=measured_rates(self, device, ("float32", "float64")),
            memory=Figure(value=memory, source="reported", how="CL_DEVICE_GLOBAL_MEM_SIZE"),
            bandwidth=measured_bandwidth(self, device),
        )

    def compile(self, device: Device, kernel: Kernel) -> Compiled:
        """Build the kernels for the device."""
        handle = self._handle(device)
        if kernel.dtype not in _TYPES or (kernel.dtype == "float64" and not handle.double_fp_config):
            raise TaskError(f"{device.name} has no kernels in {kernel.dtype}", hint="use float32")
        import pyopencl as cl  # noqa: PLC0415 (an extra)

        context = cl.Context([handle])
        try:
            program = cl.Program(context, SOURCE).build([f"-DT={_TYPES[kernel.dtype]}", f"-DFACTOR={FACTOR}"])
        except cl.Error as error:
            raise TaskError(f"{device.name} cannot build {kernel}: {error}", hint="update its driver") from error
        dense, axpy = cl.Kernel(program, "dense"), cl.Kernel(program, "axpy")
        call = _Program(cl, context, cl.CommandQueue(context), dense, axpy, kernel)
        return Compiled(device=device, kernel=kernel, call=call, memory_bytes=kernel.moved_bytes)

    def run(self, compiled: Compiled, inputs: Mapping[str, Array]) -> Array:
        """Compute, and bring the answer back."""
        compiled.kernel.require(inputs)
        call: _Program = compiled.call
        return call.fetch(call(call.place(inputs)))

    def profile(self, compiled: Compiled, inputs: Mapping[str, Array], seconds: float) -> Profile:
        """Time runs."""
        compiled.kernel.require(inputs)
        given = compiled.call.place(inputs)
        return timed(lambda: compiled.call(given), seconds)

    def health(self, device: Device) -> Health:
        """Compute a known answer."""
        return known_answer(self, device)

    def _found(self) -> list[tuple[Device, Any]]:
        require_extra("opencl", 'the device adapter "opencl"')
        import pyopencl as cl  # noqa: PLC0415

        try:
            platforms = cl.get_platforms()
        except cl.Error as error:
            raise StateError(f"no OpenCL platform: {error}", hint="install a driver, or PoCL") from error
        handles = [(platform, handle) for platform in platforms for handle in platform.get_devices()]
        if not handles:
            raise StateError("OpenCL has no device here", hint="install a driver, or PoCL")
        return [(self._device(f"opencl{at}", *pair), pair[1]) for at, pair in enumerate(handles)]

    def _device(self, name: str, platform: Any, handle: Any) -> Device:
        label: Label = "emulated" if platform.name in _STAND_INS else "executed"
        return Device(
            name=name,
            kind="gpu" if "GPU" in str(handle.type) else "accelerator",
            adapter=self.name,
            model=handle.name.strip(),
            label=label,
            backing=f"{platform.name} {handle.driver_version}".strip(),
        )

    def _handle(self, device: Device) -> Any:
        for known, handle in self._found():
            if known == device:
                return handle
        raise TaskError(f"{device.name} is no longer there", hint="discover devices again")


@dataclass(frozen=True)
class _Program:
    cl: Any
    context: Any
    queue: Any
    dense: Any
    axpy: Any
    kernel: Kernel

    def place(self, inputs: Mapping[str, Array]) -> dict[str, Any]:
        flags = self.cl.mem_flags.READ_ONLY | self.cl.mem_flags.COPY_HOST_PTR
        return {
            name: self.cl.Buffer(self.context, flags, hostbuf=np.ascontiguousarray(value, self.kernel.border))
            for name, value in inputs.items()
        }

    def __call__(self, given: Mapping[str, Any]) -> Any:
        n = self.kernel.size
        match self.kernel.what:
            case "axpy":
                out = self._room(n)
                self.axpy(self.queue, (n,), None, given["x"], given["y"], out)
            case "product":
                out = self._dense((n, n), (given["a"], given["b"], given["b"]), n, _NO_BIAS)
            case "network":
                hidden = self._dense((n, HIDDEN), (given["x"], given["w1"], given["b1"]), FEATURES, _RELU)
                out = self._dense((n, CLASSES), (hidden, given["w2"], given["b2"]), HIDDEN, _LAST)
        self.queue.finish()
        return out

    def fetch(self, out: Any) -> Array:
        shape = {"axpy": (self.kernel.size,), "product": (self.kernel.size,) * 2}
        found = np.empty(shape.get(self.kernel.what, (self.kernel.size, CLASSES)), self.kernel.border)
        self.cl.enqueue_copy(self.queue, found, out)
        return found

    def _dense(self, shape: tuple[int, int], given: tuple[Any, Any, Any], inner: int, last: int) -> Any:
        out = self._room(shape[0] * shape[1])
        self.dense(self.queue, shape, None, *given, out, np.int32(inner), np.int32(last))
        return out

    def _room(self, numbers: int) -> Any:
        return self.cl.Buffer(self.context, self.cl.mem_flags.READ_WRITE, numbers * self.kernel.border.itemsize)
