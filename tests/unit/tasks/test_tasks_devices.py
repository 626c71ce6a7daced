"""Device adapters keep their published laws, laws find adapters that break them, figures say how they came about."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from archipel.spec import MissingExtraError, StateError, TaskError, UnknownNameError, decode, encode
from archipel.spec.device import Device, DeviceSurvey, Figure, Health
from archipel.tasks.devices import measuring, survey
from archipel.tasks.devices.adapters import ADAPTERS, open_device_adapter
from archipel.tasks.devices.conformance import (
    LAWS,
    a_device_that_is_not_here_never_runs,
    answers_are_those_of_the_reference,
    discovering_twice_finds_the_same,
    every_figure_says_how_it_came_about,
    every_kernel_compiles_in_float32,
    running_does_not_change_its_arguments,
    the_same_inputs_give_the_same_bytes,
)
from archipel.tasks.devices.kernels import Kernel
from archipel.tasks.devices.numpy_cpu import NumpyCpu
from archipel.tasks.devices.port import Compiled

HERE = ["numpy", "onnxruntime", pytest.param("torch", marks=pytest.mark.torch), "xla"]
NEEDS = {"torch": "torch", "xla": "jax"}


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Measure small things once; what is measured is not what these tests are about."""
    monkeypatch.setattr(measuring, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "BUDGET_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "BANDWIDTH_NUMBERS", 4096)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_adapter_keeps_the_law(name, law):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    law(open_device_adapter(name))


class Wrong(NumpyCpu):
    def run(self, compiled, inputs):
        return super().run(compiled, inputs) * 1.01


class Fickle(NumpyCpu):
    def run(self, compiled, inputs):
        return super().run(compiled, inputs) + np.random.default_rng().uniform(0, 1e-12)


class Greedy(NumpyCpu):
    def run(self, compiled, inputs):
        answer = super().run(compiled, inputs)
        if all(value.flags.writeable for value in inputs.values()):
            next(iter(inputs.values()))[...] = 0
            return answer
        raise ValueError("read-only")


class Narrow(NumpyCpu):
    def compile(self, device, kernel):
        if kernel.what == "axpy":
            raise TaskError("no axpy in float32")
        return super().compile(device, kernel)


class Doubled(NumpyCpu):
    def discover(self):
        return (*super().discover(), *super().discover())


class Boasting(NumpyCpu):
    """Says that it only compiles, and runs."""

    def discover(self):
        return tuple(msgspec.structs.replace(device, label="compiled") for device in super().discover())


class Silent(NumpyCpu):
    def capabilities(self, device):
        found = super().capabilities(device)
        return msgspec.structs.replace(found, rates={"float32": Figure(value=1.0, source="stated", how="a guess")})


@pytest.mark.parametrize(
    ("law", "adapter"),
    [
        (answers_are_those_of_the_reference, Wrong()),
        (the_same_inputs_give_the_same_bytes, Fickle()),
        (running_does_not_change_its_arguments, Greedy()),
        (every_kernel_compiles_in_float32, Narrow()),
        (discovering_twice_finds_the_same, Doubled()),
        (a_device_that_is_not_here_never_runs, Boasting()),
        (every_figure_says_how_it_came_about, Silent()),
    ],
    ids=lambda item: getattr(item, "__name__", type(item).__name__),
)
def test_a_law_finds_who_breaks_it(law, adapter):
    with pytest.raises((AssertionError, ValueError)):
        law(adapter)


def test_a_wrong_answer_is_bad_health():
    adapter = Wrong()
    assert adapter.health(adapter.discover()[0]).state == "failed"


def test_operations_and_bytes_are_those_one_counts_by_hand():
    assert Kernel("product", "float32", 3).flop == 2 * 27
    assert Kernel("axpy", "float32", 10).moved_bytes == 3 * 10 * 4
    assert Kernel("axpy", "bfloat16", 10).moved_bytes == 3 * 10 * 2
    assert Kernel("network", "float32", 2).flop == 2 * 2 * (64 * 128 + 128 * 10)


def test_a_rate_is_operations_over_the_fastest_run(monkeypatch):
    took = iter([0.5, 0.25])

    class Timed(NumpyCpu):
        def profile(self, compiled, inputs, seconds):
            return measuring.Profile(seconds=next(took), runs=1)

    adapter = Timed()
    figure = measuring.measured_rate(adapter, adapter.discover()[0], "float32")
    assert figure.value == 2 * 256**3 / 0.25
    assert figure.source == "measured"


def test_a_survey_is_kept_until_the_machine_changes(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(survey, "_asked", lambda name, _: (asked.append(name), survey.measure(name, 7.0))[1])
    first = survey.survey_devices(["numpy"], cache=tmp_path)
    assert survey.survey_devices(["numpy"], cache=tmp_path) == first
    assert survey.known_devices(tmp_path) == first
    assert asked == ["numpy"]
    survey.survey_devices(["numpy"], cache=tmp_path, fresh=True)
    assert asked == ["numpy"] * 2
    monkeypatch.setattr(survey, "processor", lambda: "another processor")
    assert survey.known_devices(tmp_path).reports == ()
    survey.survey_devices(["numpy"], cache=tmp_path)
    assert asked == ["numpy"] * 3


def test_a_damaged_cache_is_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "_asked", lambda name, _: survey.measure(name, 7.0))
    first = survey.survey_devices(["numpy"], cache=tmp_path)
    for file in tmp_path.glob("*.json"):
        file.write_bytes(b"{")
    assert survey.survey_devices(["numpy"], cache=tmp_path).absent == first.absent == ()


def test_what_is_missing_is_said_by_name_with_the_way_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = survey.measure("torch", 0.0)
    assert found.reports == ()
    assert "PyTorch" in found.absent[0].reason
    assert "[torch]" in found.absent[0].hint
    with pytest.raises(MissingExtraError):
        open_device_adapter("xla").discover()


def test_an_adapter_whose_process_dies_takes_its_own_line_only(tmp_path, monkeypatch):
    real = subprocess.run

    def run(words, **options):
        return real([words[0], "-c", "import sys; sys.exit('the driver is gone')"], **options)

    monkeypatch.setattr(survey.subprocess, "run", run)
    found = survey.survey_devices(["numpy"], cache=tmp_path)
    assert "the driver is gone" in found.absent[0].reason
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_the_process_prints_a_survey_and_nothing_else():
    done = subprocess.run(
        [sys.executable, "-m", "archipel.tasks.devices", "ask", "nobody", "0"], capture_output=True, check=True
    )
    found = decode(done.stdout, DeviceSurvey)
    assert "nobody" in found.absent[0].reason


def test_an_unknown_adapter_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        open_device_adapter("nunpy")
    assert "numpy" in caught.value.hint


def test_every_adapter_is_where_the_table_says():
    for name in ADAPTERS:
        assert open_device_adapter(name).name == name


def test_a_report_travels_as_its_canonical_bytes():
    found = survey.measure("numpy", 3.0)
    assert decode(encode(found), DeviceSurvey) == found
    assert found.reports[0].capabilities.power.source == "modelled"
    assert found.reports[0].health == Health(state="ok", detail=found.reports[0].health.detail)


def test_a_selected_device_refuses_to_run():
    device = Device(name="npu0", kind="accelerator", adapter="x", model="x", label="selected", backing="x")
    from archipel.tasks.devices.kernels import require_runs

    with pytest.raises(StateError, match="selected, not executed here"):
        require_runs(device)
    assert Compiled(device=device, kernel=Kernel("axpy", "float32", 1), call=None).collectives == {}
