"""Adapters whose tool chains are heavy extras keep the laws too; `make test-devices` has them all."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest

from archipel.spec import MissingExtraError, StateError
from archipel.tasks.devices import measuring
from archipel.tasks.devices.adapters import open_device_adapter
from archipel.tasks.devices.conformance import LAWS
from archipel.tasks.devices.kernels import FACTOR, Kernel

NEEDS = {"opencl": "pyopencl", "openvino": "openvino", "tpu": "libtpu"}
ALL = "ARCHIPEL_TEST_DEVICES"


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(measuring, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "BUDGET_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "BANDWIDTH_NUMBERS", 4096)


def needs(name):
    """Skip where the extra is not installed; where all of them must be, fail instead."""
    if importlib.util.find_spec(NEEDS[name]) is None:
        if os.environ.get(ALL):
            pytest.fail(f"{NEEDS[name]} is not installed, and {ALL} is set")
        pytest.skip(f"needs archipel[{name}]")


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_adapter_keeps_the_law(name, law):
    needs(name)
    law(open_device_adapter(name))


@pytest.mark.parametrize("name", NEEDS)
def test_without_the_extra_its_name_is_said(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == NEEDS[name] else module)
    with pytest.raises(MissingExtraError) as caught:
        open_device_adapter(name).discover()
    assert f"[{name}]" in caught.value.hint


def test_opencl_gives_the_bits_that_follow_from_its_order_of_additions():
    needs("opencl")
    adapter = open_device_adapter("opencl")
    device = adapter.discover()[0]
    kernel = Kernel("product", "float32", 23)
    inputs = kernel.inputs(seed=2)
    expected = np.zeros((23, 23), np.float32)
    for k in range(23):  # one product and one sum a step, each rounded
        expected = expected + inputs["a"][:, k, None] * inputs["b"][k]
    assert adapter.run(adapter.compile(device, kernel), inputs).tobytes() == expected.tobytes()
    kernel = Kernel("axpy", "float32", 999)
    inputs = kernel.inputs(seed=2)
    expected = np.float32(FACTOR) * inputs["x"] + inputs["y"]
    assert adapter.run(adapter.compile(device, kernel), inputs).tobytes() == expected.tobytes()


def test_tpus_are_compiled_for_and_say_what_a_program_takes():
    needs("tpu")
    adapter = open_device_adapter("tpu")
    devices = adapter.discover()
    assert [device.name for device in devices] == ["tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e"]
    for device in devices:
        made = adapter.compile(device, Kernel("product", "bfloat16", 256))
        assert made.flop == 2 * 256**3
        assert made.memory_bytes is not None
        assert made.memory_bytes >= 3 * 256 * 256 * 2
        with pytest.raises(StateError, match="compiled for"):
            adapter.run(made, made.kernel.inputs(seed=0))
