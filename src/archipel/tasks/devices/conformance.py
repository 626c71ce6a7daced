"""The laws every device adapter keeps, published so that an adapter of your own can be held to them.

    @pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
    def test_adapter_keeps_the_law(law):
        law(MyAdapter())

Each law holds every device that the adapter discovers, with the best backing there is: silicon, a stand-in, or the
compiler alone. A law that is broken raises AssertionError with the two things that should have agreed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np

from archipel.spec import ArchipelError, ShapeError, StateError, TaskError
from archipel.spec.device import Capabilities, Device, DType, Figure
from archipel.tasks.devices.kernels import RUNS, WHATS, Array, Kernel
from archipel.tasks.devices.port import Compiled, DeviceAdapter

DTYPES: tuple[DType, ...] = ("float32", "float64", "bfloat16", "float16")
SIZES = (1, 17)
Law = Callable[[DeviceAdapter], None]


def discovering_twice_finds_the_same(adapter: DeviceAdapter) -> None:
    """There is at least one device, each under a name of its own, through this adapter, with something behind it."""
    found = adapter.discover()
    assert found, "no device"
    assert found == adapter.discover(), "another call found others"
    assert len({device.name for device in found}) == len(found), "two devices have one name"
    for device in found:
        assert device.adapter == adapter.name, f"{device.adapter} is not {adapter.name}"
        assert device.backing, f"nothing is said to be behind {device.name}"


def every_kernel_compiles_in_float32(adapter: DeviceAdapter) -> None:
    """Another type is compiled too, or refused by a TaskError; for a device that is only selected nothing is."""
    for device in adapter.discover():
        if device.label == "selected":
            made = _made(adapter, device, Kernel("product", "float32", 1))
            assert isinstance(made, StateError), f"{device.name} is selected, and {made} was compiled for it"
            continue
        kinds = {made.kernel.what for made in _compiled(adapter, device) if made.kernel.dtype == "float32"}
        assert kinds == set(WHATS), f"{device.name} computes {kinds} of {WHATS}"


def answers_are_those_of_the_reference(adapter: DeviceAdapter) -> None:
    """Each kernel and type, at several sizes, within the precision of its numbers."""
    for device, made in _running(adapter):
        inputs = made.kernel.inputs(seed=3)
        answer, reference = adapter.run(made, inputs), made.kernel.reference(inputs)
        assert answer.dtype == made.kernel.border, f"{answer.dtype} is not {made.kernel.border}"
        assert answer.shape == reference.shape, f"{answer.shape} is not {reference.shape}"
        off = np.max(np.abs(answer - reference)) / np.max(np.abs(reference))
        assert off <= made.kernel.tolerance(), f"{made.kernel} on {device.name} is off by {off}"


def the_same_inputs_give_the_same_bytes(adapter: DeviceAdapter) -> None:
    """On one device, by one program, and by the same program compiled again."""
    for device, made in _running(adapter):
        inputs = made.kernel.inputs(seed=4)
        first = adapter.run(made, inputs).tobytes()
        assert first == adapter.run(made, inputs).tobytes(), f"{made.kernel} twice on {device.name}"
        again = adapter.run(adapter.compile(device, made.kernel), inputs).tobytes()
        assert first == again, f"{made.kernel} compiled twice for {device.name}"


def running_does_not_change_its_arguments(adapter: DeviceAdapter) -> None:
    """Inputs are as they were, and read-only ones are taken."""
    for _, made in _running(adapter):
        inputs = made.kernel.inputs(seed=5)
        for value in inputs.values():
            value.flags.writeable = False
        before = {name: value.copy() for name, value in inputs.items()}
        adapter.run(made, inputs)
        for name, value in inputs.items():
            assert np.array_equal(value, before[name]), f"{name} of {made.kernel} was changed"


def other_inputs_are_refused(adapter: DeviceAdapter) -> None:
    """One too few, an unknown one, and another shape are ShapeErrors that name the kernel."""
    for _, made in _running(adapter):
        good = made.kernel.inputs(seed=6)
        name = next(iter(good))
        others: tuple[dict[str, Array], ...] = ({}, {**good, "stranger": good[name]}, {**good, name: good[name][:0]})
        for bad in others:
            error = _raised(partial(adapter.run, made, bad))
            assert isinstance(error, ShapeError), f"{made.kernel} took {sorted(bad)}"
            assert made.kernel.what in error.message, error.message


def a_profile_says_how_long_and_how_often(adapter: DeviceAdapter) -> None:
    """Positive seconds over at least one run; energy, if any, says how it came about."""
    for _, made in _running(adapter):
        found = adapter.profile(made, made.kernel.inputs(seed=7), 0.0)
        assert found.runs >= 1, found
        assert found.seconds > 0, found
        assert found.joules is None or found.joules.how, found


def a_device_that_is_not_here_never_runs(adapter: DeviceAdapter) -> None:
    """Compiled or selected: run and profile are StateErrors that say the label, and no figure is measured."""
    for device in adapter.discover():
        if device.label in RUNS:
            continue
        sources = {figure.source for figure in _figures(adapter.capabilities(device))}
        assert "measured" not in sources, f"{device.name} is {device.label} and has measured figures"
        assert adapter.health(device).state == "untested", adapter.health(device)
        for made in _compiled(adapter, device):
            inputs = made.kernel.inputs(seed=0)
            for call in (partial(adapter.run, made, inputs), partial(adapter.profile, made, inputs, 0.0)):
                assert isinstance(_raised(call), StateError), f"{made.kernel} ran on {device.name}"


def every_figure_says_how_it_came_about(adapter: DeviceAdapter) -> None:
    """A device that runs has a measured rate in float32; a figure is above 0 and says what was done for it."""
    for device in adapter.discover():
        found = adapter.capabilities(device)
        for figure in _figures(found):
            assert figure.value > 0, figure
            assert figure.how, figure
        if device.label in RUNS:
            assert found.rates["float32"].source == "measured", found.rates
            assert found.memory is not None, f"{device.name} has no memory"
            assert adapter.health(device).state in {"ok", "degraded"}, adapter.health(device)


LAWS: tuple[Law, ...] = (
    discovering_twice_finds_the_same,
    every_kernel_compiles_in_float32,
    answers_are_those_of_the_reference,
    the_same_inputs_give_the_same_bytes,
    running_does_not_change_its_arguments,
    other_inputs_are_refused,
    a_profile_says_how_long_and_how_often,
    a_device_that_is_not_here_never_runs,
    every_figure_says_how_it_came_about,
)
"""All of them; each takes an adapter. The last one measures, for some seconds."""


def _compiled(adapter: DeviceAdapter, device: Device) -> Iterator[Compiled]:
    """Compile every kernel, type and size; what is refused must be refused by name."""
    if device.label == "selected":
        return
    sizes = SIZES if device.label in RUNS else SIZES[-1:]
    for what, dtype, size in product(WHATS, DTYPES, sizes):
        made = _made(adapter, device, Kernel(what, dtype, size))
        if isinstance(made, Compiled):
            yield made
            continue
        assert isinstance(made, TaskError), f"{type(made).__name__}: {made.message}"
        assert dtype != "float32", f"{device.name} refuses {what} in float32: {made.message}"
        assert dtype in made.message, made.message


def _made(adapter: DeviceAdapter, device: Device, kernel: Kernel) -> Compiled | ArchipelError:
    try:
        return adapter.compile(device, kernel)
    except ArchipelError as error:
        return error


def _running(adapter: DeviceAdapter) -> Iterator[tuple[Device, Compiled]]:
    for device in adapter.discover():
        if device.label in RUNS:
            for made in _compiled(adapter, device):
                yield device, made


def _figures(found: Capabilities) -> list[Figure]:
    known = (found.serial, found.memory, found.bandwidth, found.power)
    return [*found.rates.values(), *(figure for figure in known if figure is not None)]


def _raised(call: Callable[[], object]) -> ArchipelError | None:
    try:
        call()
    except ArchipelError as error:
        return error
    return None
