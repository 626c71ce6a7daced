"""Showing what a fleet that need not exist could do: capacity beside demand, and what decides each.

show_capacity(capacity_of(fleet), fleet, console)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archipel.cli.client import Client
from archipel.cli.placing import show_front, show_placement, show_timetable
from archipel.cli.planning import show_plan
from archipel.planner.assignment import Objective
from archipel.planner.capacity import Capacity, ComputeCapacity, LinkCapacity, StorageCapacity, capacity_of
from archipel.planner.forecast import Forecast, forecast, rounds_within
from archipel.planner.inventory import fleet_of
from archipel.planner.placement import Point, front, place_work
from archipel.planner.sharing import Goal, Rules
from archipel.planner.timetable import draw_timetable
from archipel.spec import JobSpec, encode
from archipel.spec.compression import CompressionSpec
from archipel.spec.errors import InfeasibleError, SpecError, StateError, UnknownNameError
from archipel.spec.fleet import Demand, FleetSpec, read_fleet
from archipel.spec.quantities import Duration, Money, Quantity

NOW = "now"
"""Instead of a fleet file: the sites of a control plane."""


def open_fleet(words: str, client: Callable[[], Client]) -> FleetSpec:
    """Read FLEET.toml, or FLEET.toml:PRESET,PRESET; "now" is the fleet of a control plane, as its sites measured it."""
    if words == NOW:
        with client() as plane:
            return fleet_now(plane)
    path, _, presets = words.partition(".toml:")
    if not presets:
        return read_fleet(Path(words))
    return read_fleet(Path(path + ".toml"), tuple(presets.split(",")))


def fleet_now(client: Client) -> FleetSpec:
    """Return the sites of a control plane, by what they said they have.

    Raises:
        StateError: none has said anything yet.
    """
    inventories = client.inventories()
    if not inventories:
        raise StateError("no site has said what it has", hint="sites do when they come: `archipel status` shows them")
    rows = {
        view.name: {item.dataset: item.manifest.rows for item in view.datasets if item.manifest is not None}
        for view in client.sites()
    }
    return fleet_of(NOW, inventories, rows)


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What a placement must keep, and what it is to make small."""

    objective: Objective = "time"
    deadline: Duration | None = None
    budget: Money | None = None


def wishes_from(objective: str, deadline: str | None, budget: str | None) -> Wishes:
    """Check the words of the command line."""
    known: tuple[Objective, ...] = get_args(Objective)
    chosen = next((name for name in known if name == objective), None)
    if chosen is None:
        raise UnknownNameError.of("objective", objective, known)
    return Wishes(
        objective=chosen,
        deadline=None if deadline is None else Duration.parse(deadline),
        budget=None if budget is None else Money.parse(budget),
    )


def foresee(fleet: FleetSpec, job: JobSpec | None, wishes: Wishes, console: Console, *, as_json: bool) -> None:
    """Plan over a fleet: the job, if there is one, else what the fleet file asks for.

    Raises:
        InfeasibleError: it cannot be done; said after the plan, which names the smallest changes.
    """
    if job is not None:
        if wishes.budget is not None or wishes.objective != "time":
            raise SpecError("a job over a fleet is planned by time alone", hint="omit --budget and --objective")
        found = forecast(fleet, job)
        if as_json:
            print(encode(found.plan).decode())
        else:
            show_forecast(found, job.name, wishes.deadline, console)
        if _verdict(found, wishes.deadline) == "infeasible":
            raise _infeasible(["deadline"])
        return
    capacity = capacity_of(fleet)
    placed, points = None, tuple[Point, ...]()
    if fleet.work:
        placed = place_work(fleet, objective=wishes.objective, deadline=wishes.deadline, budget=wishes.budget)
        points = front(fleet)
    if as_json:
        print(json.dumps({"fleet": fleet.name, **plain({"capacity": capacity, "placement": placed, "front": points})}))
    else:
        show_capacity(capacity, fleet, console)
        if placed is not None:
            show_placement(placed, console)
            show_front(points, console)
    obstacles = [one.what for one in capacity.shortfalls]
    obstacles += [] if placed is None else placed.binding
    if obstacles:
        raise _infeasible(obstacles)


def foresee_timetable(fleet: FleetSpec, objective: str, console: Console, *, as_json: bool) -> None:
    """Plan how the work of a fleet would take turns.

    Raises:
        InfeasibleError: some of it may run nowhere.
    """
    known: tuple[Goal, ...] = get_args(Goal)
    goal = next((name for name in known if name == objective), None)
    if goal is None:
        raise UnknownNameError.of("objective", objective, known)
    if not fleet.work:
        raise SpecError(f"fleet {fleet.name!r} has no work to share it among", hint="write it below [work.NAME]")
    timetable = draw_timetable(fleet, Rules(objective=goal))
    if as_json:
        print(json.dumps({"fleet": fleet.name, "timetable": plain(timetable)}))
    else:
        show_timetable(timetable, goal, console)


def _infeasible(obstacles: Sequence[str]) -> InfeasibleError:
    hint = "take one of the changes the plan names, or ask for less"
    return InfeasibleError(f"infeasible: {', '.join(obstacles)} in the way", hint=hint)


def _verdict(found: Forecast, deadline: Duration | None) -> Literal["feasible", "infeasible", "undecided"]:
    if deadline is None or found.plan.seconds is None:
        return "undecided"
    low, high = found.plan.seconds
    return "feasible" if high <= deadline.value else "infeasible" if low > deadline.value else "undecided"


def show_forecast(found: Forecast, name: str, deadline: Duration | None, console: Console) -> None:
    """Print the plan of the job `name` over a fleet, the site that decides, and whether it is done in time."""
    show_plan(found.plan, name, console)
    if found.slowest is not None:
        console.print(f"slowest: {found.slowest}", highlight=False)
    if found.picked is not None:
        console.print(_to_write(found.picked), highlight=False, markup=False, soft_wrap=True)
    if found.unprobed:
        console.print(f"unprobed, so an interval: {', '.join(found.unprobed)}", highlight=False, soft_wrap=True)
    if found.egress is not None:
        console.print(f"bytes that leave sites cost {found.egress}", highlight=False)
    if deadline is None:
        return
    if found.plan.seconds is None:
        console.print(f"[yellow]undecided[/]: no time can be told, so nor whether {deadline} is enough")
        return
    _, high = found.plan.seconds
    verdict = _verdict(found, deadline)
    console.print(f"{verdict} within {deadline}", highlight=False)
    if verdict != "feasible":
        rounds = rounds_within(found.plan, deadline)
        least = Duration(math.ceil(high), unit="s")
        console.print(f"  it would take a deadline of {least}, or {rounds} rounds instead of {found.plan.rounds}")


def _to_write(picked: CompressionSpec) -> str:
    if not picked.sites:
        return "compression: no site's link is what a round waits for; leave [federation.compression] out"
    sites = ", ".join(f'{site} = "{kind}"' for site, kind in picked.sites.items())
    lines = ("picked; write in the job:", "  [federation.compression]", '  kind = "none"', f"  sites = {{ {sites} }}")
    return "\n".join(lines)


def show_capacity(capacity: Capacity, fleet: FleetSpec, console: Console) -> None:
    """Print what the fleet has, what is asked of it, and what does not fit."""
    table = Table(title=f"Capacity of {fleet.name}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in ("", "there is", "asked for", "what decides"):
        table.add_column(heading)
    if capacity.compute is not None:
        _compute_rows(table, capacity.compute)
    if capacity.storage is not None:
        _storage_rows(table, capacity.storage)
    if capacity.links is not None:
        _link_rows(table, capacity.links, fleet.demand)
    console.print(table)
    if capacity.compute is not None and capacity.compute.undecided:
        console.print(f"[yellow]undecided[/]: {escape(capacity.compute.undecided)}", highlight=False, soft_wrap=True)
    for one in capacity.shortfalls:
        console.print(
            f"[red]infeasible[/]: {one.what} {one.needed} of {one.available}, {one.missing} missing; "
            f"it would take {one.relaxation}",
            highlight=False,
            soft_wrap=True,
        )


def _compute_rows(table: Table, found: ComputeCapacity) -> None:
    asked = "—" if found.needed is None else str(found.needed)
    asked = "undecided" if found.undecided else asked
    table.add_row("compute", str(found.total), asked, f"{found.devices} devices, work dealt by speed")
    table.add_row("  in lock-step", str(found.lock_step), "", f"equal parts wait for {found.slowest}")


def _storage_rows(table: Table, found: StorageCapacity) -> None:
    table.add_row("storage", str(found.total), "—" if found.needed is None else str(found.needed), "")
    if found.placed:
        where = ", ".join(f"{part.size} on {part.tier}" for part in found.placed)
        table.add_row("  read from", str(found.effective), "", f"{found.bottleneck} is read for {found.read_time}")
        table.add_row("", "", "", where)
    table.add_row("  raw bandwidth", str(found.bandwidth), "", "sum over tiers: no reader sees it")


def _link_rows(table: Table, found: LinkCapacity, demand: Demand) -> None:
    moved = f"{demand.transfer} in " if demand.transfer is not None else ""
    series = "—".join(found.route) if found.route else "the narrowest, in series"
    table.add_row("link, one path", str(found.path), f"{moved}{found.path_time}" if moved else "—", series)
    beside = "all paths at once (max-flow)" if found.route else "all links beside each other"
    table.add_row("link, striped", str(found.striped), f"{moved}{found.striped_time}" if moved else "—", beside)
    table.add_row("  mean of links", str(found.mean), "", "not usable: the speed of nothing")


def plain(value: Any) -> Any:
    """Return JSON data of planner values: a quantity is {"value": in base units, "unit": what it counts}."""
    if isinstance(value, Quantity):
        return {"value": value.value, "unit": value.counts.replace("money", value.currency)}
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value
