"""Showing devices: each with its label, its figures, and of each figure how it came about.

show_survey(survey_devices(cache=cache_folder()), console)
show_inventory("coral", client.inventory("coral").inventories, console)
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from itertools import pairwise

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archipel.cli import wording
from archipel.planner.inventory import best_reports
from archipel.spec.device import SAID, Capabilities, DeviceReport, DeviceSurvey, Figure
from archipel.spec.inventory import Disk, SiteInventory
from archipel.spec.quantities import Bandwidth, Compute, Power, Quantity

_LABELS = {"executed": "green", "emulated": "cyan", "compiled": "yellow", "selected": "dim"}
_HEALTH = {"ok": "green", "degraded": "yellow", "failed": "red", "untested": "dim"}
_SHORT = {"float64": "f64", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def show_survey(survey: DeviceSurvey, console: Console) -> None:
    """Print the devices of a machine, then the adapters that found none."""
    show_reports(survey.reports, console)
    for one in survey.absent:
        said = f"not here: {one.adapter} ({one.reason}{'; ' + one.hint if one.hint else ''})"
        console.print(said, style="dim", highlight=False, markup=False, soft_wrap=True)


def show_reports(reports: tuple[DeviceReport, ...], console: Console) -> None:
    """Print devices, three lines each; a figure without a word behind it was measured."""
    for report in reports:
        device, found, health = report.device, report.capabilities, report.health
        label = f"[{_LABELS[device.label]}]{SAID[device.label]}[/]"
        console.print(
            f"[bold]{device.name}[/] {escape(device.model)}: {label} by {escape(device.backing)}; "
            f"[{_HEALTH[health.state]}]{health.state}[/]" + (f" ({escape(health.detail)})" if health.detail else ""),
            highlight=False,
            soft_wrap=True,
        )
        memory = f"{_figure(found.memory, None)} at {_figure(found.bandwidth, Bandwidth)}"
        for line in (
            f"computes {', '.join(_rates(found)) or '—'}",
            f"memory {memory}, power {_figure(found.power, Power)}",
        ):
            console.print(f"    {line}", highlight=False, soft_wrap=True)
    if not reports:
        console.print("no devices")


def show_inventory(site: str, inventories: tuple[SiteInventory, ...], console: Console) -> None:
    """Print a site's newest inventory, and when it was another one before."""
    if not inventories:
        console.print(f"{site} has not said what it has", highlight=False)
        return
    newest = inventories[0]
    console.print(f"[bold]{site}[/] at {_when(newest.at)}", highlight=False)
    free = f"{wording.size(newest.load.memory_available_bytes)} of {wording.size(newest.memory_bytes)} free"
    for line in (
        f"{newest.cores} cores, load {wording.share(newest.load.cores)}; memory {free}",
        *(_disk(disk) for disk in newest.disks),
        f"link down {_figure(newest.down, Bandwidth)}, up {_figure(newest.up, Bandwidth)}",
        "work begins at any time" if newest.hours is None else _hours(newest),
    ):
        console.print(f"    {line}", highlight=False, soft_wrap=True)
    if newest.devices:
        show_reports(newest.devices, console)
    else:
        console.print("    devices: not measured before the site has had a quiet minute", highlight=False)
    for later, earlier in pairwise(inventories):
        for change in _changes(earlier, later):
            console.print(f"{_when(later.at)}  {change}", style="dim", highlight=False, markup=False, soft_wrap=True)


def show_sites(names: tuple[str, ...], found: Mapping[str, SiteInventory], console: Console) -> None:
    """Print what each site has, a line each."""
    heads = ("site", "devices", "f32", "memory", "disk read", "down", "up", "load")
    table = Table(*heads, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        if name not in found:
            table.add_row(name, "[dim]not said[/]")
            continue
        one = found[name]
        best = best_reports(one.devices)
        rates = [_figure(report.capabilities.rates["float32"], Compute) for report in best.values()]
        read = next((_figure(disk.read, Bandwidth) for disk in one.disks if disk.holds_site), "—")
        table.add_row(
            name,
            ", ".join(best) or "—",
            ", ".join(rates) or "—",
            wording.size(one.memory_bytes),
            read,
            _figure(one.down, Bandwidth),
            _figure(one.up, Bandwidth),
            wording.share(one.load.cores),
        )
    console.print(table)


def _disk(disk: Disk) -> str:
    place = " (holds the site's folder)" if disk.holds_site else ""
    speed = f", read {_figure(disk.read, Bandwidth)}, write {_figure(disk.write, Bandwidth)}"
    room = f"{wording.size(disk.free_bytes)} of {wording.size(disk.capacity_bytes)} free"
    return f"disk {disk.tier}{place}: {room}{speed if disk.read else ''}"


def _hours(inventory: SiteInventory) -> str:
    hours = inventory.hours
    return "" if hours is None else f"work begins from {hours.begin} to {hours.end} ({hours.zone})"


def _changes(before: SiteInventory, after: SiteInventory) -> list[str]:
    """Say what is other than it was; how figures moved is left to --json."""
    said = [
        f"{called} {getattr(before, what)} → {getattr(after, what)}"
        for what, called in (("cores", "cores"), ("memory_bytes", "bytes of memory"))
        if getattr(before, what) != getattr(after, what)
    ]
    had, has = ({one.device for one in each.devices} for each in (before, after))
    said += [f"+ {device.name} by {device.backing}, {SAID[device.label]}" for device in sorted(has - had, key=str)]
    said += [f"- {device.name} by {device.backing}, {SAID[device.label]}" for device in sorted(had - has, key=str)]
    if _hours(before) != _hours(after):
        said.append(_hours(after) or "work begins at any time")
    return said


def _when(at: float) -> str:
    return dt.datetime.fromtimestamp(at, tz=dt.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _rates(found: Capabilities) -> list[str]:
    rates = [f"{_SHORT[dtype]} {_figure(figure, Compute)}" for dtype, figure in found.rates.items()]
    return [*rates, f"f32 on one core {_figure(found.serial, Compute)}"] if found.serial is not None else rates


def _figure(figure: Figure | None, unit: type[Quantity] | None) -> str:
    if figure is None:
        return "—"
    said = wording.size(figure.value) if unit is None else str(unit(figure.value))
    return said if figure.source == "measured" else f"{said} [dim]{figure.source}[/]"
