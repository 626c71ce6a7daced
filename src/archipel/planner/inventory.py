"""From what sites found that they have to what plans are drawn over.

    fleet = fleet_of("now", {"coral": inventory}, rows={"coral": {"penguins": 168}})
    capacity_of(fleet), forecast(fleet, job)                  # as over a fleet file
    reach = reach_of(inventory)                               # narrows the interval of an unprobed site

Devices that run count, each at the best measured rate in float32 that any adapter got out of it; one that is only
compiled for, selected or emulated does no work, and a GPU that two adapters see counts once. Power is that of a
device at work, modelled where it could not be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from archipel.planner.pace import Reach
from archipel.spec.device import DeviceReport, Figure
from archipel.spec.fleet import Device, FleetSite, FleetSpec, Tier
from archipel.spec.inventory import Disk, SiteInventory
from archipel.spec.quantities import Bandwidth, Compute, Power, Size

_ANY_MAKER = "opencl"
"""The adapter that sees devices which others see under other names."""


def fleet_of(
    name: str, inventories: Mapping[str, SiteInventory], rows: Mapping[str, Mapping[str, int]] | None = None
) -> FleetSpec:
    """Return sites as a fleet; `rows` is site → data set → its rows there."""
    held = rows or {}
    sites = {site: site_of(found, held.get(site, {})) for site, found in sorted(inventories.items())}
    return FleetSpec(name=name, sites=sites)


def site_of(inventory: SiteInventory, rows: Mapping[str, int]) -> FleetSite:
    """Return one site as a fleet file has it."""
    return FleetSite(
        rows={dataset: count for dataset, count in rows.items() if count > 0},
        devices=_devices(inventory.devices),
        storage=_storage(inventory.disks),
        down=None if inventory.down is None else Bandwidth(inventory.down.value),
        up=None if inventory.up is None else Bandwidth(inventory.up.value),
    )


def reach_of(inventory: SiteInventory) -> Reach:
    """Return how fast a worker there computes at the most, and how fast its links are."""
    serial = [one.capabilities.serial.value for one in inventory.devices if one.capabilities.serial is not None]
    return Reach(
        operations_per_second=max(serial, default=None),
        down=None if inventory.down is None else inventory.down.value,
        up=None if inventory.up is None else inventory.up.value,
    )


def best_reports(reports: Iterable[DeviceReport]) -> dict[str, DeviceReport]:
    """Return device → the report of the adapter that got most out of it, of those on which programs run."""
    at_work = [
        report
        for report in reports
        if report.device.label == "executed"
        and "float32" in report.capabilities.rates
        and report.health.state != "failed"
    ]
    known = {report.device.model for report in at_work if report.device.adapter != _ANY_MAKER}
    found: dict[str, DeviceReport] = {}
    for report in at_work:
        if report.device.adapter == _ANY_MAKER and report.device.model in known:
            continue
        before = found.get(report.device.name)
        if before is None or _rate(before) < _rate(report):
            found[report.device.name] = report
    return found


def _rate(report: DeviceReport) -> float:
    return report.capabilities.rates["float32"].value


def _devices(reports: Iterable[DeviceReport]) -> dict[str, Device]:
    return {
        name: Device(
            compute=Compute(report.capabilities.rates["float32"].value),
            memory=_size(report.capabilities.memory),
            power=None if report.capabilities.power is None else Power(report.capabilities.power.value),
        )
        for name, report in best_reports(reports).items()
    }


def _storage(disks: Iterable[Disk]) -> dict[str, Tier]:
    """Return tiers that were read, with what is free on them: a plan may not count on the rest."""
    return {
        disk.tier: Tier(capacity=Size(float(disk.free_bytes)), bandwidth=Bandwidth(disk.read.value))
        for disk in disks
        if disk.read is not None and disk.free_bytes > 0
    }


def _size(figure: Figure | None) -> Size | None:
    return None if figure is None else Size(figure.value)
