"""Panels as a picture file, by matplotlib: no window, no state of the process, nothing kept between pictures."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archipel.cli.curves.panels import Panel
from archipel.data.stores.spool import full_disk_named
from archipel.spec import MissingExtraError, SpecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")
_WIDTH_INCHES, _PANEL_INCHES, _DOTS_PER_INCH = 8.0, 3.0, 150
_COLOURS = ("#0f6f86", "#d08b2f", "#1f7a4d", "#b3372f", "#6b5b95", "#5b6670")
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.")
"""A line is told by its dashes too, for whoever sees no colours."""


def require_picture(path: Path) -> None:
    """Refuse a picture that could not be written when the work is done.

    Raises:
        SpecError: the name ends in nothing we draw, or its folder does not exist.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SpecError(
            f"no picture can be drawn into {path.name!r}", hint=f"let its name end in {', '.join(SUFFIXES)}"
        )
    if not path.absolute().parent.is_dir():
        raise SpecError(f"there is no folder {path.parent} for the picture", hint="make it, or name another")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("drawing a picture needs matplotlib", hint="pip install 'archipel[curves]'")


def draw(panels: Sequence[Panel], path: Path, *, title: str) -> None:
    """Draw the panels below each other into `path`; a picture is whole or not there.

    Raises:
        StorageFullError: the disk is full.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, _PANEL_INCHES * max(1, len(panels))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    first: Axes | None = None
    for number, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(len(panels), 1, number, sharex=first)
        first = first or axes
        _fill(axes, panel)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    with full_disk_named(path.absolute().parent):
        try:
            figure.savefig(partial, dpi=_DOTS_PER_INCH)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _fill(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator

    dashes = itertools.cycle(_DASHES)
    for (label, points), colour in zip(panel.lines.items(), itertools.cycle(_COLOURS), strict=False):
        rounds, values = zip(*points, strict=True)
        marker = "o" if len(points) <= 30 else ""
        axes.plot(rounds, values, label=label, color=colour, linestyle=next(dashes), marker=marker, markersize=3)
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_xlabel("round")
    axes.set_ylabel(panel.up, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, alpha=0.3)
    if len(panel.lines) > 1:
        axes.legend(fontsize=8)
