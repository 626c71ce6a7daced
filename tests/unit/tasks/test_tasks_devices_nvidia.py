"""NVIDIA GPUs against a driver that is not there: readings written by hand in NVML's units, and a stand-in for pynvml.

No GPU answered for these tests; what runs "on the GPU" here runs on the processor.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from archipel.spec import StateError, decode, encode
from archipel.tasks.devices import measuring, nvidia_gpu
from archipel.tasks.devices.conformance import LAWS
from archipel.tasks.devices.kernels import Kernel
from archipel.tasks.devices.nvidia_gpu import NvidiaGpu
from archipel.tasks.devices.nvml import GpuReading, read_gpus
from archipel.tasks.devices.torch_cpu import compiled_on

BIG = GpuReading(
    uuid="GPU-1",
    model="a large board",
    driver="570.1",
    memory_bytes=80 * 2**30,
    bus_bits=5120,
    memory_mhz=2619,
    power_limit_watts=700.0,
    temperature=41,
)
SMALL = GpuReading(uuid="GPU-2", model="a small board", driver="570.1", memory_bytes=8 * 2**30)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(measuring, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "BUDGET_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "BANDWIDTH_NUMBERS", 4096)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_gpus_without_a_cuda_pytorch_keep_the_law(law):
    law(NvidiaGpu(lambda: (BIG, SMALL), dict))


@pytest.mark.torch
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_a_gpu_that_computes_keeps_the_law(law, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(nvidia_gpu, "compiled_on", lambda device, kernel, _place: compiled_on(device, kernel, "cpu"))
    law(NvidiaGpu(lambda: (BIG,), lambda: {"GPU-1": 0}))


def test_only_a_gpu_that_pytorch_sees_is_executed():
    first, second = NvidiaGpu(lambda: (BIG, SMALL), lambda: {"GPU-2": 0}).discover()
    assert (first.name, first.label) == ("gpu0", "selected")
    assert (second.name, second.label) == ("gpu1", "executed")


def test_a_kernel_goes_to_the_gpu_of_its_uuid_whatever_pytorch_calls_it(monkeypatch):
    places = []
    monkeypatch.setattr(nvidia_gpu, "compiled_on", lambda _device, _kernel, place: places.append(place))
    adapter = NvidiaGpu(lambda: (BIG, SMALL), lambda: {"GPU-1": 1, "GPU-2": 0})
    for device in adapter.discover():
        adapter.compile(device, Kernel("axpy", "float32", 1))
    assert places == ["cuda:1", "cuda:0"]


def test_figures_of_the_driver_are_reported_and_bandwidth_is_modelled_from_its_bus():
    adapter = NvidiaGpu(lambda: (BIG, SMALL), dict)
    big, small = map(adapter.capabilities, adapter.discover())
    assert (big.memory.value, big.memory.source) == (80 * 2**30, "reported")
    assert big.bandwidth.value == 640 * 2619e6 * 2  # 5120 bits are 640 bytes, moved twice a clock
    assert big.bandwidth.source == "modelled"
    assert (big.power.value, big.power.source) == (700.0, "reported")
    assert (small.bandwidth, small.power, small.rates) == (None, None, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slowed": 0x40}, "too hot"),
        ({"slowed": 0x80}, "power brake"),
        ({"ecc_errors": 3}, "3 memory errors"),
        ({"temperature": 95}, "95 degrees"),
        ({"slowed": 0x01 | 0x04}, ""),
    ],
    ids=str,
)
def test_what_the_driver_complains_of_is_passed_on(change, said):
    import msgspec

    adapter = NvidiaGpu(lambda: (msgspec.structs.replace(BIG, **change),), dict)
    health = adapter.health(adapter.discover()[0])
    assert health.state == "untested"
    assert said in health.detail
    assert bool(health.detail) == bool(said)


def test_a_driver_without_a_gpu_is_said():
    with pytest.raises(StateError, match="no GPU"):
        NvidiaGpu(tuple, dict).discover()


def test_a_reading_travels_as_its_canonical_bytes():
    assert decode(encode(BIG), GpuReading) == BIG


class DriverError(Exception):
    pass


def driver(**changes):
    """What nvidia-ml-py offers, for one board."""

    def missing(*_):
        raise DriverError("Not Supported")

    calls = {
        "__spec__": object(),
        "NVMLError": DriverError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda _: "GPU-1",
        "nvmlDeviceGetName": lambda _: "a large board",
        "nvmlSystemGetDriverVersion": lambda: "570.1",
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=80 * 2**30),
        "nvmlDeviceGetMemoryBusWidth": lambda _: 5120,
        "nvmlDeviceGetMaxClockInfo": lambda _, kind: {2: 2619}[kind],
        "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700_000,
        "nvmlDeviceGetTemperature": lambda _, sensor: 41 + sensor,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda _: 0,
        "nvmlDeviceGetTotalEccErrors": missing,
    }
    return SimpleNamespace(**(calls | changes))


def test_the_driver_is_read_in_its_units(monkeypatch):
    pytest.importorskip("pynvml")
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    assert read_gpus() == (BIG,)


def test_a_machine_without_a_driver_is_said(monkeypatch):
    pytest.importorskip("pynvml")

    def fails():
        raise DriverError("NVML Shared Library Not Found")

    monkeypatch.setitem(sys.modules, "pynvml", driver(nvmlInit=fails))
    with pytest.raises(StateError, match="Shared Library Not Found"):
        read_gpus()
