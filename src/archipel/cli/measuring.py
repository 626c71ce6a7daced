"""Showing devices: each with its label, its figures, and of each figure how it came about.

show_survey(survey_devices(cache=cache_folder()), console)
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from archipel.cli import wording
from archipel.spec.device import SAID, Capabilities, DeviceReport, DeviceSurvey, Figure
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


def _rates(found: Capabilities) -> list[str]:
    rates = [f"{_SHORT[dtype]} {_figure(figure, Compute)}" for dtype, figure in found.rates.items()]
    return [*rates, f"f32 on one core {_figure(found.serial, Compute)}"] if found.serial is not None else rates


def _figure(figure: Figure | None, unit: type[Quantity] | None) -> str:
    if figure is None:
        return "—"
    said = wording.size(figure.value) if unit is None else str(unit(figure.value))
    return said if figure.source == "measured" else f"{said} [dim]{figure.source}[/]"
