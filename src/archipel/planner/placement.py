"""Work onto the devices of a fleet: where each thing runs, when all is done, what it costs, what stands in the way.

    found = place_work(fleet, objective="cost", deadline=Duration.parse("2 h"))
    found.lanes                       # device → what it does, in order
    found.value, found.bound          # no placement is better than the bound
    found.relaxations                 # where nothing fits: the smallest changes that would make it fit

Times are work over stated speed, costs price times time at work, energy power times time at work: modelled, not
measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from archipel.planner.assignment import Assignment, Instance, Objective, assign
from archipel.planner.capacity import devices_of
from archipel.spec.errors import SpecError
from archipel.spec.fleet import Device, FleetSpec, WorkItem
from archipel.spec.quantities import Duration, Energy, Money


@dataclass(frozen=True, kw_only=True)
class Lane:
    """What one device does."""

    device: str
    """"site/kind/number"."""
    items: tuple[tuple[str, Duration], ...]
    """Name of the work and how long it takes, in order."""

    @property
    def time(self) -> Duration:
        """When it is done."""
        return Duration(sum(time.value for _, time in self.items))


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one placement takes."""

    time: Duration
    cost: Money
    energy: Energy


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where all work runs, or why it cannot."""

    status: str
    """"feasible", "infeasible", or "unknown" where time ran out first."""
    objective: Objective
    lanes: tuple[Lane, ...]
    """Devices that have something to do, the fullest first; empty unless feasible."""
    takes: Point | None
    bound: float
    """Of the objective, in s, J or money: no placement is better."""
    gap: float
    """How far the placement may be above the best, as a share of the bound."""
    binding: tuple[str, ...]
    """What stands in the way; empty unless infeasible."""
    relaxations: tuple[str, ...]
    """Each of them alone makes it feasible; the smallest of its kind that was found in time."""


@dataclass(frozen=True)
class _Problem:
    """The fleet's work and devices as an instance."""

    items: list[tuple[str, WorkItem]]
    devices: list[tuple[str, str, Device]]
    instance: Instance
    currency: str


def place_work(
    fleet: FleetSpec,
    *,
    objective: Objective = "time",
    deadline: Duration | None = None,
    budget: Money | None = None,
    seconds: float = 5.0,
) -> Placement:
    """Place all work of `fleet` within about `seconds` of searching; looking for relaxations takes as long again each.

    Raises:
        SpecError: prices or the budget are in different currencies.
    """
    problem = _problem(fleet, deadline, budget)
    stuck = list(nowhere(fleet))
    if stuck:
        return _infeasible(
            objective, [what for what, _ in stuck], [change for _, changes in stuck for change in changes]
        )
    found = assign(problem.instance, objective=objective, seconds=seconds)
    if found.status != "infeasible":
        return _placement(problem, objective, found)
    return _infeasible(objective, *_certificate(problem, deadline, budget, seconds))


def front(fleet: FleetSpec, *, points: int = 7, seconds: float = 0.5) -> tuple[Point, ...]:
    """Return placements none of which is better than another in time, cost and energy, the fastest first.

    Between the fastest and the cheapest (where nothing has a price: the most frugal) the deadline is moved in even
    ratios, and the cheapest placement within each is sought for `seconds`.
    """
    problem = _problem(fleet, None, None)
    if next(nowhere(fleet), None) is not None:
        return ()
    cheap: Objective = "cost" if problem.instance.cost is not None and problem.instance.cost.any() else "energy"
    fastest = assign(problem.instance, objective="time", seconds=seconds)
    cheapest = assign(problem.instance, objective=cheap, seconds=seconds)
    ends = [_takes(problem, one) for one in (fastest, cheapest) if one.status == "feasible"]
    if len(ends) < 2:
        return tuple(ends)
    found = list(ends)
    for limit in np.geomspace(ends[0].time.value, max(ends[1].time.value, ends[0].time.value), points)[:-1]:
        tight = replace(problem.instance, deadline=float(limit) * (1 + 1e-9))
        one = assign(tight, objective=cheap, seconds=seconds)
        found += [_takes(problem, one)] if one.status == "feasible" else []
    return _undominated(found)


def _problem(fleet: FleetSpec, deadline: Duration | None, budget: Money | None) -> _Problem:
    items = [(name, item) for name, item in fleet.work.items() for _ in range(item.count)]
    devices = devices_of(fleet)
    prices = [device.price for _, _, device in devices if device.price is not None]
    currencies = {price.currency for price in prices} | ({budget.currency} if budget is not None else set())
    if len(currencies) > 1:
        raise SpecError(
            f"prices in {' and '.join(sorted(currencies))}", hint="give all prices and the budget in one currency"
        )
    speeds = np.array([device.compute.value for _, _, device in devices])
    seconds = np.array([item.work.value for _, item in items])[:, None] / speeds[None, :]
    allowed = {
        name: [not against(item, fleet, site, kind, device) for site, kind, device in devices]
        for name, item in fleet.work.items()
    }
    price = np.array([0.0 if device.price is None else device.price.value for _, _, device in devices])
    power = np.array([0.0 if device.power is None else device.power.value for _, _, device in devices])
    instance = Instance(
        seconds=np.where([allowed[name] for name, _ in items], seconds, np.inf),
        cost=seconds * price,
        energy=seconds * power,
        deadline=np.inf if deadline is None else deadline.value,
        budget=np.inf if budget is None else budget.value,
    )
    return _Problem(items, devices, instance, min(currencies, default=""))


def against(item: WorkItem, fleet: FleetSpec, site: str, kind: str, device: Device) -> dict[str, str]:
    """Return what forbids an item on a device: constraint → the change that would allow it."""
    found = {}
    region = fleet.sites[site].region
    if item.regions and region not in item.regions:
        found["regions"] = f"leave for its data to be in {region or site}"
    if item.devices and kind not in item.devices:
        found["devices"] = f"leave to run on {kind}"
    if item.memory is not None and device.memory is not None and device.memory < item.memory:
        found["memory"] = f"{item.memory - device.memory} more memory at {site}/{kind}"
    return found


def nowhere(fleet: FleetSpec) -> Iterator[tuple[str, list[str]]]:
    """Yield work no device may do: what stands in the way, and the smallest relaxation of each kind."""
    devices = {(site, kind): one for site, found in fleet.sites.items() for kind, one in found.devices.items()}
    for name, item in fleet.work.items():
        refusals = [
            (against(item, fleet, site, kind, one), 0.0 if one.memory is None else -one.memory.value)
            for (site, kind), one in devices.items()
        ]
        if refusals and all(reasons for reasons, _ in refusals):
            fewest = min(len(reasons) for reasons, _ in refusals)
            nearest: dict[str, str] = {}
            for reasons, _ in sorted(refusals, key=lambda one: one[1]):  # the most memory first
                if len(reasons) == fewest:
                    nearest.setdefault(" and ".join(reasons), f"{' and '.join(reasons.values())}, for {name}")
            yield f"{' or '.join(nearest)} of {name}", list(nearest.values())
        elif not refusals:
            yield f"devices for {name}", ["a device at some site"]


def _certificate(
    problem: _Problem, deadline: Duration | None, budget: Money | None, seconds: float
) -> tuple[list[str], list[str]]:
    """Return which of deadline and budget bind, and by how much each alone would have to give way."""
    binding, relaxations = [], []
    if deadline is not None:
        binding.append("deadline")
        least = assign(replace(problem.instance, deadline=np.inf), objective="time", seconds=seconds)
        if least.status == "feasible":
            relaxations.append(f"a deadline of {_up(least, 's')} instead of {deadline}")
    if budget is not None:
        least = assign(replace(problem.instance, budget=np.inf), objective="cost", seconds=seconds)
        binding.append("budget")
        if least.status == "feasible":
            relaxations.append(f"a budget of {_up(least, budget.currency)} instead of {budget}")
    if len(relaxations) == 1:
        binding = ["deadline" if relaxations[0].startswith("a deadline") else "budget"]
    if deadline is not None and budget is not None and not relaxations:
        relaxations.append(_both(problem, budget, seconds))
    return binding, relaxations


def _both(problem: _Problem, budget: Money, seconds: float) -> str:
    """Return the least time of all, and what that costs at the least, where neither limit alone can be kept."""
    free = replace(problem.instance, deadline=np.inf, budget=np.inf)
    fastest = assign(free, objective="time", seconds=seconds)
    cheapest = assign(replace(free, deadline=fastest.value * (1 + 1e-9)), objective="cost", seconds=seconds)
    return f"a deadline of {_up(fastest, 's')} and a budget of {_up(cheapest, budget.currency)} together"


def _up(found: Assignment, unit: str) -> str:
    """Return a value rounded up in its last digit, so that what is shown suffices."""
    digits = max(0, 4 - len(str(int(found.value))))
    return f"{np.ceil(found.value * 10**digits) / 10**digits:,.{digits}f} {unit}"


def _infeasible(objective: Objective, binding: list[str], relaxations: list[str]) -> Placement:
    return Placement(
        status="infeasible",
        objective=objective,
        lanes=(),
        takes=None,
        bound=np.inf,
        gap=0.0,
        binding=tuple(binding),
        relaxations=tuple(relaxations),
    )


def _placement(problem: _Problem, objective: Objective, found: Assignment) -> Placement:
    feasible = found.status == "feasible"
    return Placement(
        status=found.status,
        objective=objective,
        lanes=_lanes(problem, found) if feasible else (),
        takes=_takes(problem, found) if feasible else None,
        bound=found.bound,
        gap=found.gap,
        binding=(),
        relaxations=(),
    )


def _lanes(problem: _Problem, found: Assignment) -> tuple[Lane, ...]:
    held: dict[int, list[tuple[str, Duration]]] = {}
    for job, machine in enumerate(found.machines.tolist()):
        name, _ = problem.items[job]
        held.setdefault(machine, []).append((name, Duration(float(problem.instance.seconds[job, machine]), unit="s")))
    numbers: dict[tuple[str, str], int] = {}
    lanes = []
    for machine, (site, kind, _) in enumerate(problem.devices):
        numbers[site, kind] = numbers.get((site, kind), 0) + 1
        if machine in held:
            lanes.append(Lane(device=f"{site}/{kind}/{numbers[site, kind]}", items=tuple(held[machine])))
    return tuple(sorted(lanes, key=lambda lane: (-lane.time.value, lane.device)))


def _takes(problem: _Problem, found: Assignment) -> Point:
    instance, jobs = problem.instance, np.arange(len(found.machines))
    assert instance.cost is not None
    assert instance.energy is not None
    taken = instance.seconds[jobs, found.machines]
    return Point(
        time=Duration(float(np.bincount(found.machines, weights=taken).max()), unit="s"),
        cost=Money(float(instance.cost[jobs, found.machines].sum()), problem.currency),
        energy=Energy(float(instance.energy[jobs, found.machines].sum())),
    )


def _undominated(points: list[Point]) -> tuple[Point, ...]:
    figures = [(one.time.value, one.cost.value, one.energy.value) for one in points]
    kept = {
        mine: points[index]
        for index, mine in enumerate(figures)
        if not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in figures)
    }
    return tuple(kept[key] for key in sorted(kept))
