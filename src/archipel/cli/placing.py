"""Showing where work would run: a Gantt chart of the devices, what it takes, and the choices between time and cost.

show_placement(place_work(fleet), console)
show_front(front(fleet), console)
show_timetable(draw_timetable(fleet, rules), objective, console)
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archipel.cli import wording
from archipel.planner.placement import Lane, Placement, Point
from archipel.planner.timetable import Timetable
from archipel.spec.quantities import Duration

_LANES = 12
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
_MARKS = "█▓▒░▞▚"


def show_placement(found: Placement, console: Console) -> None:
    """Print each device's work on one scale of time, or what stands in the way."""
    if found.takes is None:
        _show_obstacles(found, console)
        return
    names = sorted({name for lane in found.lanes for name, _ in lane.items})
    label = max(len(lane.device) for lane in found.lanes[:_LANES])
    width = max(10, min(console.width, 120) - label - 14)
    console.print("[bold]Placement[/] (modelled from stated speeds)")
    for lane in found.lanes[:_LANES]:
        bar = _bar(lane, found.takes.time, width, names)
        console.print(f"{lane.device:{label}} {bar} {wording.duration(lane.time.value)}", highlight=False)
    if len(found.lanes) > _LANES:
        console.print(f"… and {len(found.lanes) - _LANES} devices that are done sooner")
    marks = "  ".join(f"[{_colour(index)}]{_mark(index)}[/] {escape(name)}" for index, name in enumerate(names))
    console.print(marks, highlight=False)
    console.print(
        f"all done after {wording.duration(found.takes.time.value)}, {_price(found.takes)}; "
        f"by {found.objective}, {_certainty(found)}",
        highlight=False,
        soft_wrap=True,
    )


def show_front(points: Sequence[Point], console: Console) -> None:
    """Print what can be had for what: no line is better than another in everything."""
    if len(points) < 2:
        return
    table = Table(title="Choices", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in ("all done after", "cost", "energy (modelled)"):
        table.add_column(heading, justify="right")
    for point in points:
        cost = f"{point.cost.value:.2f} {point.cost.currency}" if point.cost.currency else "—"
        table.add_row(wording.duration(point.time.value), cost, str(point.energy))
    console.print(table)


def show_timetable(timetable: Timetable, objective: str, console: Console) -> None:
    """Print who runs first, and when each job ends."""
    every = wording.duration(timetable.interval)
    console.print(f"[bold]Timetable[/] (modelled from stated speeds; starts and moves every {every})", highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "runs first on", "done after"):
        table.add_column(heading)
    for job, end in list(timetable.ends.items())[:_LANES]:
        table.add_row(escape(job), escape(timetable.first.placed.get(job, "waits")), wording.duration(end))
    console.print(table)
    if len(timetable.ends) > _LANES:
        console.print(f"… and {len(timetable.ends) - _LANES} jobs that end later")
    last, gap = max(timetable.ends.values()), timetable.first.gap
    certainty = "proved to be the best" if gap < 1e-6 else f"at most {gap:.1%} from the best"
    console.print(
        f"by {objective}: a job ends after {wording.duration(timetable.mean)} on the mean, weighted, the last after "
        f"{wording.duration(last)}; the first interval {certainty}",
        highlight=False,
        soft_wrap=True,
    )


def _show_obstacles(found: Placement, console: Console) -> None:
    if found.status == "unknown":
        console.print("[yellow]unknown[/]: time ran out before a placement was found or excluded", soft_wrap=True)
        return
    console.print(f"[red]infeasible[/]: {escape(', '.join(found.binding))} in the way", highlight=False, soft_wrap=True)
    for change in found.relaxations:
        console.print(f"  it would take {escape(change)}", highlight=False, soft_wrap=True)


def _bar(lane: Lane, whole: Duration, width: int, names: Sequence[str]) -> str:
    parts, begun = [], 0.0
    for name, time in lane.items:
        first, last = round(begun / whole.value * width), round((begun + time.value) / whole.value * width)
        index = names.index(name)
        parts.append(f"[{_colour(index)}]{_mark(index) * (last - first)}[/]" if last > first else "")
        begun += time.value
    return "".join(parts) + " " * (width - round(begun / whole.value * width))


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _mark(index: int) -> str:
    return _MARKS[index % len(_MARKS)]


def _price(takes: Point) -> str:
    cost = f"{takes.cost.value:.2f} {takes.cost.currency}, " if takes.cost.currency else ""
    return f"{cost}{takes.energy} (modelled)"


def _certainty(found: Placement) -> str:
    if found.gap < 1e-6:
        return "proved to be the best"
    return f"at most {found.gap:.1%} above the best (bound {found.bound:,.4g})"
