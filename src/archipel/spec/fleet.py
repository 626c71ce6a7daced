"""FleetSpec: sites that need not exist, in one TOML file, for plans of what they could do.

    name = "two halls"

    [demand]                      compute, storage and transfer that are asked for
    [sites.NAME]                  rows of data, region, bandwidth to control
    [sites.NAME.devices.KIND]     how many, how fast; power and price, where known
    [sites.NAME.storage.TIER]     capacity and bandwidth
    [[links]]                     between two sites
    [work.NAME]                   things to compute, to be placed on devices

Quantities are text with a unit, such as "25 Gb/s". Unknown keys are refused with the nearest valid name. `read_fleet`
is the one way in.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from archipel.spec.canonical import Name, Value
from archipel.spec.errors import SpecError, UnknownNameError
from archipel.spec.keys import misfit, overlay, refuse_non_finite, refuse_unknown
from archipel.spec.quantities import (
    Bandwidth,
    Compute,
    Duration,
    Power,
    Price,
    Size,
    SizePrice,
    Throughput,
    Work,
    read_quantity,
)

Positive = Annotated[int, Meta(ge=1)]


class Device(Value, frozen=True, kw_only=True):
    """[sites.NAME.devices.KIND]: equal devices at one site."""

    count: Positive = 1
    compute: Compute
    """What one of them computes; as stated, not measured."""
    memory: Size | None = None
    """Of one; None: never too little."""
    power: Power | None = None
    """Of one at work; None: its energy is not counted."""
    price: Price | None = None
    """Of one while it works; None: costs nothing."""


class Tier(Value, frozen=True, kw_only=True):
    """[sites.NAME.storage.TIER]: disks of one kind, read as one."""

    capacity: Size
    bandwidth: Bandwidth
    """All of them together."""


class Probe(Value, frozen=True, kw_only=True):
    """[[sites.NAME.probes]]: a batch that was timed there."""

    batch: Positive
    """Examples in it."""
    time: Duration


class FleetSite(Value, frozen=True, kw_only=True):
    """[sites.NAME]."""

    region: Name | None = None
    """Where it is, for work that may not leave a region."""
    rows: dict[Name, Annotated[int, Meta(ge=1)]] = field(default_factory=dict)
    """Data set → its rows here."""
    devices: dict[Name, Device] = field(default_factory=dict)
    storage: dict[Name, Tier] = field(default_factory=dict)
    down: Bandwidth | None = None
    """From control; None: not known."""
    up: Bandwidth | None = None
    """To control; None: not known."""
    egress: SizePrice | None = None
    """Of bytes that leave it; None: costs nothing."""
    probes: tuple[Probe, ...] = ()
    """Two batches of different sizes make a prediction; fewer: an interval."""


class Link(Value, frozen=True, kw_only=True):
    """[[links]]: a connection of two places, as fast each way; a place without a site is a switch."""

    ends: tuple[Name, Name]
    bandwidth: Bandwidth


class Demand(Value, frozen=True, kw_only=True):
    """[demand]: what is asked of the whole fleet; what is left out is not asked for."""

    compute: Compute | None = None
    transactions: Throughput | None = None
    work_per_transaction: Work | None = None
    """Makes `transactions` comparable with FLOP/s; without it nobody can say whether they fit."""
    storage: Size | None = None
    copies: Positive = 1
    """Of what is stored."""
    transfer: Size | None = None
    """To be moved over the links."""
    source: Name | None = None
    """Where the transfer begins; None: the links are taken in series and striped."""
    target: Name | None = None


class WorkItem(Value, frozen=True, kw_only=True):
    """[work.NAME]: equal things to compute, each on one device."""

    count: Positive = 1
    work: Work
    memory: Size | None = None
    """What a device must have; None: not checked."""
    devices: tuple[Name, ...] = ()
    """Kinds that can do it; empty: all."""
    regions: tuple[Name, ...] = ()
    """Where its data may be; empty: anywhere."""
    weight: Annotated[float, Meta(gt=0)] = 1.0
    """How much the end of one is worth beside others', where work takes turns."""


class FleetSpec(Value, frozen=True, kw_only=True, tag_field="type", tag="fleet/1"):
    """A fleet as somebody wrote it down."""

    name: Name
    sites: dict[Name, FleetSite]
    links: tuple[Link, ...] = ()
    demand: Demand = field(default_factory=Demand)
    work: dict[Name, WorkItem] = field(default_factory=dict)
    model: Size | None = None
    """Of the job that is planned; None: as control knows it, or not at all."""


def read_fleet(path: Path, presets: tuple[str, ...] = ()) -> FleetSpec:
    """Read and check a fleet file; `presets` name tables under [preset.NAME] laid over the rest, in order.

    Raises:
        SpecError: the file is absent, not TOML, or a value has the wrong type or unit.
        UnknownNameError: a key, unit, preset or place does not exist; the hint names the nearest one.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SpecError(f"no fleet file at {path}", hint="give the path of a fleet.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not valid TOML: {error}", hint="mend the line it names") from error
    return fleet_from(document, presets, where=str(path))


def fleet_from(document: dict[str, Any], presets: tuple[str, ...] = (), *, where: str = "fleet") -> FleetSpec:
    """Check a parsed document; see `read_fleet`."""
    refuse_non_finite(document, where)
    known = document.pop("preset", {})
    for name, preset in known.items():
        refuse_unknown(preset, FleetSpec, f"{where} [preset.{name}]")
    for preset in presets:
        if preset not in known:
            raise UnknownNameError.of("preset", preset, known)
        document = overlay(document, known[preset])
    refuse_unknown(document, FleetSpec, where)
    try:
        fleet = msgspec.convert({"type": "fleet/1", **document}, FleetSpec, dec_hook=read_quantity)
    except msgspec.ValidationError as error:
        raise misfit(where, error, "archipel schema --fleet") from error
    _refuse_unknown_places(fleet, where)
    return fleet


def _refuse_unknown_places(fleet: FleetSpec, where: str) -> None:
    places = {end for link in fleet.links for end in link.ends} | set(fleet.sites)
    demand = fleet.demand
    for key, place in (("source", demand.source), ("target", demand.target)):
        if place is not None and place not in places:
            raise UnknownNameError.of(f"{key} in {where} [demand]:", place, places)
    if (demand.source is None) != (demand.target is None):
        raise SpecError(f"{where} [demand] has one end of a transfer", hint="give `source` and `target`, or neither")
    for name, item in fleet.work.items():
        regions = {site.region for site in fleet.sites.values() if site.region is not None}
        for region in set(item.regions) - regions:
            raise UnknownNameError.of(f"region in {where} [work.{name}]:", region, regions)
        kinds = {kind for site in fleet.sites.values() for kind in site.devices}
        for kind in set(item.devices) - kinds:
            raise UnknownNameError.of(f"device in {where} [work.{name}]:", kind, kinds)
