"""How figures come about: a few kernels, run until the clock can tell, on any adapter.

    rates = measured_rates(adapter, device, ("float32", "bfloat16"))
    bandwidth = measured_bandwidth(adapter, device)
    health = known_answer(adapter, device)

A product is doubled in size until one run takes long enough to be timed; its fastest run counts, since whatever else
the machine does only ever adds. No figure is taken from a name: a type that the device does not have is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import psutil

from archipel.spec import ArchipelError, TaskError
from archipel.spec.device import Device, DType, Figure, Health
from archipel.tasks.devices.kernels import Kernel
from archipel.tasks.devices.port import DeviceAdapter, Profile

LEAST_SECONDS = 0.02
"""A run that takes less is doubled in size."""
BUDGET_SECONDS = 0.25
"""For runs of one kernel."""
FIRST_SIZE, LAST_SIZE = 256, 8192
BANDWIDTH_NUMBERS = 2**23
"""32 MiB of float32 an array, three of them: more than caches hold."""
WATTS_A_CORE = 5.0
"""What server processors of the 2020s state for all of them, over their cores."""


def measured_rates(adapter: DeviceAdapter, device: Device, dtypes: Sequence[DType]) -> dict[DType, Figure]:
    """Return FLOP/s by type, of those that the device computes with."""
    found: dict[DType, Figure] = {}
    for dtype in dtypes:
        try:
            found[dtype] = measured_rate(adapter, device, dtype)
        except TaskError:
            continue  # the adapter refuses the type by name
    return found


def measured_rate(adapter: DeviceAdapter, device: Device, dtype: DType) -> Figure:
    """Return FLOP/s of matrix products in one type."""
    size = FIRST_SIZE
    while True:
        kernel = Kernel("product", dtype, size)
        compiled, inputs = adapter.compile(device, kernel), kernel.inputs(seed=0)
        first = adapter.profile(compiled, inputs, 0.0)
        if first.seconds >= LEAST_SECONDS or size >= LAST_SIZE:
            break
        size *= 2
    took = min(first.seconds, adapter.profile(compiled, inputs, BUDGET_SECONDS).seconds)
    how = f"product of {size} x {size} {dtype}"
    return Figure(value=kernel.flop / took, source="measured", how=how)


def measured_bandwidth(adapter: DeviceAdapter, device: Device) -> Figure:
    """Return B/s of memory, as y = a x + y sees it: three arrays moved, whatever more an adapter moves by the way."""
    kernel = Kernel("axpy", "float32", BANDWIDTH_NUMBERS)
    took = adapter.profile(adapter.compile(device, kernel), kernel.inputs(seed=0), BUDGET_SECONDS)
    how = f"axpy over {BANDWIDTH_NUMBERS} float32"
    return Figure(value=kernel.moved_bytes / took.seconds, source="measured", how=how)


def known_answer(adapter: DeviceAdapter, device: Device, dtype: DType = "float32") -> Health:
    """Let the device compute a small network and hold its answer against the reference."""
    kernel = Kernel("network", dtype, 32)
    inputs = kernel.inputs(seed=1)
    try:
        answer = adapter.run(adapter.compile(device, kernel), inputs)
    except ArchipelError as error:
        return Health(state="failed", detail=error.message)
    reference = kernel.reference(inputs)
    off = float(np.max(np.abs(answer - reference)) / np.max(np.abs(reference)))
    if not off <= kernel.tolerance():
        return Health(state="failed", detail=f"a known answer is off by {off:.1e}")
    return Health(state="ok", detail=f"a known answer is off by {off:.1e}")


def timed(run: Callable[[], object], seconds: float) -> Profile:
    """Time `run`, which returns once its work is done: one run to warm up, then for about `seconds`, at least once."""
    run()
    best, runs, end = float("inf"), 0, time.perf_counter() + seconds
    while runs == 0 or time.perf_counter() < end:
        begun = time.perf_counter()
        run()
        best, runs = min(best, time.perf_counter() - begun), runs + 1
    return Profile(seconds=max(best, 1e-9), runs=runs)


def host_memory() -> Figure:
    """Return the machine's memory."""
    return Figure(value=float(psutil.virtual_memory().total), source="reported", how="the system's total")


def host_power() -> Figure:
    """Return what the machine's cores draw at work: modelled, for few machines let a program read their meter."""
    cores = psutil.cpu_count() or 1
    how = f"{cores} cores x {WATTS_A_CORE:g} W, a rule of thumb"
    return Figure(value=cores * WATTS_A_CORE, source="modelled", how=how)
