"""Adapters by name; each is imported when it is asked for, for some need a framework."""

from __future__ import annotations

import importlib

from archipel.spec import UnknownNameError
from archipel.tasks.devices.port import DeviceAdapter

ADAPTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "numpy": ("numpy_cpu:NumpyCpu", ("numpy",)),
    "torch": ("torch_cpu:TorchCpu", ("torch",)),
    "onnxruntime": ("onnxruntime_cpu:OnnxRuntimeCpu", ("onnxruntime",)),
    "xla": ("xla_cpu:XlaCpu", ("jax", "jaxlib")),
    "openvino": ("openvino_cpu:OpenVinoCpu", ("openvino",)),
    "opencl": ("opencl:OpenCl", ("pyopencl", "pocl-binary-distribution")),
    "tpu": ("tpu:Tpu", ("jax", "jaxlib", "libtpu")),
    "nvidia": ("nvidia_gpu:NvidiaGpu", ("nvidia-ml-py", "torch")),
}
"""Name → where it is in this folder, and the packages whose versions decide what it measures. An adapter for FPGAs has
its place here."""


def open_device_adapter(name: str) -> DeviceAdapter:
    """Return an adapter.

    Raises:
        UnknownNameError: there is none of this name.
    """
    require_adapter(name)
    file, _, kind = ADAPTERS[name][0].partition(":")
    made: DeviceAdapter = getattr(importlib.import_module(f"archipel.tasks.devices.{file}"), kind)()
    return made


def require_adapter(name: str) -> None:
    """Refuse a name that no adapter has.

    Raises:
        UnknownNameError: there is none of this name.
    """
    if name not in ADAPTERS:
        raise UnknownNameError.of("device adapter", name, ADAPTERS)
