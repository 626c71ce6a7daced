"""What a device is, what it can do, and how each of these figures came about.

    device = Device(name="cpu", kind="cpu", adapter="numpy", model="AMD EPYC", label="executed", backing="numpy 2.4.6")
    found = Capabilities(rates={"float32": Figure(value=1.1e11, source="measured", how="product of 1024")})

A label says what this installation can do with a device, and no more:

    executed    programs run on that silicon, and answer
    emulated    programs run in a stand-in that gives the same bits
    compiled    programs are compiled for it by its own compiler, and never run here
    selected    it is there, and nothing installed here computes on it
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from archipel.spec.canonical import Name, Value

Label = Literal["executed", "emulated", "compiled", "selected"]
Source = Literal["measured", "reported", "stated", "modelled"]
"""measured: by running something here; reported: by the device's driver or the system, as it is now; stated: in its
maker's data sheet; modelled: computed from other figures by a rule that `how` gives."""
SAID: dict[Label, str] = {
    "executed": "executed",
    "emulated": "emulated bit-exact",
    "compiled": "compiled for",
    "selected": "selected",
}
"""A label as people read it."""
DType = Literal["float64", "float32", "bfloat16", "float16"]


class Figure(Value, frozen=True, kw_only=True):
    """A number, and how it came about; its unit is that of the field it stands in."""

    value: Annotated[float, Meta(gt=0)]
    source: Source
    how: str
    """What was run, asked or multiplied."""


class Device(Value, frozen=True, kw_only=True):
    """Something that computes, seen through one adapter."""

    name: Name
    """Such as cpu, gpu0 or tpu-v5e."""
    kind: Literal["cpu", "gpu", "tpu", "fpga", "accelerator"]
    adapter: Name
    model: str
    """As its maker calls it."""
    label: Label
    backing: str
    """What computes or compiles, with its version."""


class Capabilities(Value, frozen=True, kw_only=True):
    """What a device can do; None or a missing entry: not known."""

    rates: dict[DType, Figure] = field(default_factory=dict)
    """FLOP/s by the type of the numbers, the whole device at work."""
    serial: Figure | None = None
    """FLOP/s in float32 on one core: what a worker has, which holds to one."""
    memory: Figure | None = None
    """Bytes."""
    bandwidth: Figure | None = None
    """B/s of its memory."""
    power: Figure | None = None
    """W at work."""


class Health(Value, frozen=True, kw_only=True):
    """Whether a device can be relied on, now."""

    state: Literal["ok", "degraded", "failed", "untested"]
    """ok: it gave a known answer; degraded: it does, and its driver complains; untested: nothing can run on it here."""
    detail: str = ""


class DeviceReport(Value, frozen=True, kw_only=True):
    """One device: what it is, what it can do, how it is."""

    device: Device
    capabilities: Capabilities
    health: Health
    measured_at: float
    """Seconds since the Unix epoch."""


class StepFit(Value, frozen=True, kw_only=True):
    """A task's training step, compiled for a slice of devices that need not be here."""

    device: Name
    """Kind of chip, such as tpu-v5e."""
    topology: str
    label: Label
    backing: str
    cores: Annotated[int, Meta(ge=1)]
    """That share the step."""
    rows: Annotated[int, Meta(ge=1)]
    """Of the step, over all cores."""
    dtype: DType
    """In which loss and gradient are computed."""
    needed_bytes: int
    """A core's arguments, results and scratch, by its compiler."""
    available_bytes: float
    """A core's memory, as its maker states it."""
    flop: float | None = None
    """A core's, by its compiler's count."""
    collectives: dict[str, int] = field(default_factory=dict)
    """Operation between cores → how often it stands in the program."""

    @property
    def fits(self) -> bool:
        """Does a core have the memory for it?"""
        return self.needed_bytes <= self.available_bytes


class Absent(Value, frozen=True, kw_only=True):
    """An adapter that found nothing, and why."""

    adapter: Name
    reason: str
    hint: str = ""


class DeviceSurvey(Value, frozen=True, kw_only=True, tag_field="type", tag="devices/1"):
    """All devices of a machine, through all adapters."""

    reports: tuple[DeviceReport, ...] = ()
    absent: tuple[Absent, ...] = ()
