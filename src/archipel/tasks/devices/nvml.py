"""What NVIDIA's driver says of its GPUs (`archipel[nvidia]`), read once into values.

    for gpu in read_gpus(): print(gpu.model, gpu.memory_bytes, gpu.temperature)

Figures that a GPU does not support are None. The values are frozen and travel as JSON, so that a reading from one
machine can stand in for the driver on another.

Calls and units: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from archipel.spec import StateError, Value
from archipel.tasks.extras import require_extra

T = TypeVar("T")
_MEMORY_CLOCK = 2
_UNCORRECTED, _SINCE_BOOT = 1, 0
_SLOWED = {
    0x08: "the hardware slows it down",
    0x20: "it is too hot (software limit)",
    0x40: "it is too hot (hardware limit)",
    0x80: "its power brake is on",
}
"""Reasons of lower clocks that mean trouble; a power cap or an idle GPU does not."""


class GpuReading(Value, frozen=True, kw_only=True):
    """One GPU, as its driver describes it."""

    uuid: str
    """Names the board, wherever it is plugged in."""
    model: str
    driver: str
    """The driver's version."""
    memory_bytes: int
    bus_bits: int | None = None
    """Width of the memory's bus."""
    memory_mhz: int | None = None
    """Its highest clock."""
    power_limit_watts: float | None = None
    """What the board may draw, as it is set now."""
    temperature: int | None = None
    """Degrees Celsius."""
    slowed: int = 0
    """Bits of why its clocks are low."""
    ecc_errors: int | None = None
    """Memory errors since the driver was loaded that could not be corrected."""

    @property
    def complaints(self) -> tuple[str, ...]:
        """What the driver finds wrong with it."""
        said = [text for bit, text in _SLOWED.items() if self.slowed & bit]
        if self.ecc_errors:
            said.append(f"{self.ecc_errors} memory errors that could not be corrected")
        return tuple(said)


def read_gpus() -> tuple[GpuReading, ...]:
    """Ask the driver for its GPUs.

    Raises:
        MissingExtraError: nvidia-ml-py is not installed.
        StateError: there is no driver, or it does not answer.
    """
    require_extra("nvidia", 'the device adapter "nvidia"')
    import pynvml  # noqa: PLC0415 (an extra)

    try:
        pynvml.nvmlInit()
        try:
            return tuple(_read(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise StateError(f"no answer of an NVIDIA driver: {error}", hint="none is needed without a GPU") from error


def energy_counter(uuid: str) -> Callable[[], float]:
    """Return a function that reads the joules a GPU has used since its driver was loaded.

    Raises:
        StateError: this GPU has no such meter.
    """
    import pynvml  # noqa: PLC0415

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise StateError(f"no meter of energy: {error}", hint="its power is the board's limit then") from error
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000


def _read(nvml: Any, index: int) -> GpuReading:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(call: Callable[..., T], *more: int) -> T | None:
        try:
            return call(handle, *more)
        except nvml.NVMLError:
            return None  # this board does not have it

    milliwatts = ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
    return GpuReading(
        uuid=nvml.nvmlDeviceGetUUID(handle),
        model=nvml.nvmlDeviceGetName(handle),
        driver=nvml.nvmlSystemGetDriverVersion(),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        bus_bits=ask(nvml.nvmlDeviceGetMemoryBusWidth),
        memory_mhz=ask(nvml.nvmlDeviceGetMaxClockInfo, _MEMORY_CLOCK),
        power_limit_watts=None if milliwatts is None else milliwatts / 1000,
        temperature=ask(nvml.nvmlDeviceGetTemperature, 0),
        slowed=ask(nvml.nvmlDeviceGetCurrentClocksEventReasons) or 0,
        ecc_errors=ask(nvml.nvmlDeviceGetTotalEccErrors, _UNCORRECTED, _SINCE_BOOT),
    )
