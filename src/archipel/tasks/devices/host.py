"""The machine's own processor, as every adapter of it names it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from archipel.spec.device import Capabilities, Device, DType, Figure
from archipel.tasks.devices.measuring import host_memory, host_power, measured_bandwidth, measured_rates
from archipel.tasks.devices.port import DeviceAdapter

CPUINFO = Path("/proc/cpuinfo")


def processor() -> str:
    """Return the processor's name, as the system gives it."""
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def cpu(adapter: str, backing: str) -> Device:
    """Return the processor as seen through an adapter."""
    return Device(name="cpu", kind="cpu", adapter=adapter, model=processor(), label="executed", backing=backing)


def cpu_capabilities(
    adapter: DeviceAdapter, device: Device, dtypes: Sequence[DType], serial: Figure | None = None
) -> Capabilities:
    """Measure a processor through an adapter."""
    return Capabilities(
        rates=measured_rates(adapter, device, dtypes),
        serial=serial,
        memory=host_memory(),
        bandwidth=measured_bandwidth(adapter, device),
        power=host_power(),
    )
