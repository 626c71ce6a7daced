"""NVIDIA GPUs (`archipel[nvidia]`): described by their driver, and computed on by PyTorch where it has CUDA.

Without such a PyTorch a GPU is selected: its driver's figures are shown, and nothing runs on it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace

from msgspec import structs

from archipel.spec import StateError, TaskError
from archipel.spec.device import Capabilities, Device, Figure, Health
from archipel.tasks.devices.kernels import RUNS, Array, Kernel, require_runs
from archipel.tasks.devices.measuring import known_answer, measured_bandwidth, measured_rates, timed
from archipel.tasks.devices.nvml import GpuReading, energy_counter, read_gpus
from archipel.tasks.devices.port import Compiled, Profile
from archipel.tasks.devices.torch_cpu import answer_of, compiled_on

LEAST_METERED_SECONDS = 0.5
"""The meter moves a few times a second: shorter runs have no energy of their own."""
_DEGREES = 90
Ordinals = Mapping[str, int]
"""UUID of a GPU → its number in PyTorch, where PyTorch sees it."""


class NvidiaGpu:
    """DeviceAdapter "nvidia"."""

    name = "nvidia"

    def __init__(
        self,
        read: Callable[[], tuple[GpuReading, ...]] = read_gpus,
        ordinals: Callable[[], Ordinals] | None = None,
    ) -> None:
        """`read` asks the driver, `ordinals` PyTorch."""
        self._read = read
        self._ordinals = ordinals or _seen_by_torch

    def discover(self) -> tuple[Device, ...]:
        """Return the GPUs, in the driver's order."""
        seen = self._ordinals()
        readings = self._read()
        if not readings:
            raise StateError("the NVIDIA driver has no GPU", hint="is one shown to this container?")
        return tuple(
            Device(
                name=f"gpu{index}",
                kind="gpu",
                adapter=self.name,
                model=reading.model,
                label="executed" if reading.uuid in seen else "selected",
                backing=f"driver {reading.driver}" + (", PyTorch" if reading.uuid in seen else ""),
            )
            for index, reading in enumerate(readings)
        )

    def capabilities(self, device: Device) -> Capabilities:
        """Return the driver's figures, and measure what can be run."""
        reading = self._reading(device)
        stated = Capabilities(
            memory=Figure(value=float(reading.memory_bytes), source="reported", how="NVML"),
            bandwidth=_bandwidth(reading),
            power=None
            if reading.power_limit_watts is None
            else Figure(value=reading.power_limit_watts, source="reported", how="NVML: enforced limit"),
        )
        if device.label not in RUNS:
            return stated
        rates = measured_rates(self, device, ("float32", "bfloat16", "float16", "float64"))
        return structs.replace(stated, rates=rates, bandwidth=measured_bandwidth(self, device))

    def compile(self, device: Device, kernel: Kernel) -> Compiled:
        """Make the kernel a function of tensors on the GPU."""
        require_runs(device)
        return compiled_on(device, kernel, f"cuda:{self._ordinals()[self._reading(device).uuid]}")

    def run(self, compiled: Compiled, inputs: Mapping[str, Array]) -> Array:
        """Compute, and bring the answer back."""
        require_runs(compiled.device)
        return answer_of(compiled, inputs)

    def profile(self, compiled: Compiled, inputs: Mapping[str, Array], seconds: float) -> Profile:
        """Time runs, with the board's own meter where it has one and the runs are long enough."""
        require_runs(compiled.device)
        compiled.kernel.require(inputs)
        given = compiled.call.place(inputs)
        if seconds < LEAST_METERED_SECONDS:
            return timed(lambda: compiled.call(given), seconds)
        try:
            meter = energy_counter(self._reading(compiled.device).uuid)
        except StateError:
            return timed(lambda: compiled.call(given), seconds)
        before = meter()
        found = timed(lambda: compiled.call(given), seconds)
        joules = (meter() - before) / (found.runs + 1)  # the warm-up ran too
        if joules <= 0:
            return found
        return replace(found, joules=Figure(value=joules, source="measured", how="NVML: total energy, mean of runs"))

    def health(self, device: Device) -> Health:
        """Compute a known answer, and pass on what the driver complains of."""
        reading = self._reading(device)
        complaints = list(reading.complaints)
        if reading.temperature is not None and reading.temperature >= _DEGREES:
            complaints.append(f"{reading.temperature} degrees Celsius")
        if device.label not in RUNS:
            return Health(state="untested", detail="; ".join(complaints))
        found = known_answer(self, device)
        if found.state != "ok" or not complaints:
            return found
        return Health(state="degraded", detail="; ".join(complaints))

    def _reading(self, device: Device) -> GpuReading:
        for index, reading in enumerate(self._read()):
            if device.name == f"gpu{index}":
                return reading
        raise TaskError(f"{device.name} is no longer there", hint="discover devices again")


def _bandwidth(reading: GpuReading) -> Figure | None:
    if not reading.bus_bits or not reading.memory_mhz:
        return None
    how = f"NVML: {reading.bus_bits} bit at {reading.memory_mhz} MHz, twice a clock"
    return Figure(value=reading.bus_bits / 8 * reading.memory_mhz * 1e6 * 2, source="modelled", how=how)


def _seen_by_torch() -> Ordinals:
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch  # noqa: PLC0415 (frameworks load when they are asked for)

    if not torch.cuda.is_available():
        return {}
    found = range(torch.cuda.device_count())
    return {_uuid(torch.cuda.get_device_properties(ordinal).uuid): ordinal for ordinal in found}


def _uuid(said: object) -> str:
    """Return a UUID as the driver writes it."""
    text = str(said)
    return text if text.startswith("GPU-") else f"GPU-{text}"
