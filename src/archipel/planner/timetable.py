"""How the work of a fleet would take turns: who runs first, and when each piece ends if no other comes.

    timetable = draw_timetable(fleet, Rules(objective="weighted-completion"))
    timetable.ends                    # job → seconds from now, the soonest first

Interval after interval the fleet is shared (`planner.sharing`), as it would be while the jobs run; rates are stated
speeds, and a job may move between intervals, as one that keeps checkpoints can. Where there is work for more than about
500 intervals they are longer than asked for, so that a plan over weeks does not take minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from archipel.planner.placement import against, nowhere
from archipel.planner.sharing import Contender, Rules, Shared, share_fleet
from archipel.spec.errors import InfeasibleError
from archipel.spec.fleet import FleetSpec

_INTERVALS = 500


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """What becomes of jobs that are all there now."""

    first: Shared
    """The first interval: job → "site/kind"."""
    ends: Mapping[str, float]
    """Job → seconds from now, the soonest first."""
    mean: float
    """Seconds to the end of a job, weighted."""
    interval: float
    """Seconds; nothing starts or moves between two."""


def draw_timetable(fleet: FleetSpec, rules: Rules) -> Timetable:
    """Share `fleet` among its work until all is done.

    Raises:
        InfeasibleError: some work may run on no device.
        SpecError: the rules make no sense.
    """
    stuck = list(nowhere(fleet))
    if stuck:
        changes = [change for _, found in stuck for change in found]
        raise InfeasibleError(
            f"infeasible: {', '.join(what for what, _ in stuck)} in the way", hint=f"it would take {changes[0]}"
        )
    rooms = {f"{site}/{kind}": one.count for site, found in fleet.sites.items() for kind, one in found.devices.items()}
    here, ends, now = _contenders(fleet), dict[str, float](), 0.0
    work = sum(one.remaining / max(one.rates.values()) for one in here.values())
    rules = replace(rules, interval=max(rules.interval, work / max(sum(rooms.values()), 1) / _INTERVALS))
    weights = {job: contender.weight for job, contender in here.items()}
    first: Shared | None = None
    while here:
        shared = share_fleet(list(here.values()), rooms, rules=rules)
        if not shared.placed:
            raise InfeasibleError(f"no way to share found in time for {len(here)} jobs", hint="plan less work at once")
        first = first or shared
        here = _after(here, shared, now, rules.interval, ends)
        now += rules.interval
    mean = sum(weights[job] * end for job, end in ends.items()) / max(sum(weights.values()), 1e-300)
    ordered = dict(sorted(ends.items(), key=lambda end: (end[1], end[0])))
    return Timetable(
        first=first or Shared(placed={}, value=0.0, bound=0.0), ends=ordered, mean=mean, interval=rules.interval
    )


def _contenders(fleet: FleetSpec) -> dict[str, Contender]:
    """Each single piece of work as a job: its name, numbered where there are several."""
    found = {}
    for name, item in fleet.work.items():
        rates = {
            f"{site}/{kind}": device.compute.value
            for site, held in fleet.sites.items()
            for kind, device in held.devices.items()
            if not against(item, fleet, site, kind, device)
        }
        for number in range(1, item.count + 1):
            job = f"{name}/{number}" if item.count > 1 else name
            found[job] = Contender(job=job, remaining=item.work.value, rates=rates, weight=item.weight)
    return found


def _after(
    here: Mapping[str, Contender], shared: Shared, now: float, interval: float, ends: dict[str, float]
) -> dict[str, Contender]:
    """Return the jobs that are left after an interval; note in `ends` when the others were done."""
    left = {}
    for job, one in here.items():
        kind = shared.placed.get(job)
        done = one.rates[kind] * interval if kind else 0.0
        if kind and done >= one.remaining:
            ends[job] = now + one.remaining / one.rates[kind]
        else:
            left[job] = Contender(
                job=job,
                remaining=one.remaining - done,
                rates=one.rates,
                weight=one.weight,
                age=now + interval,
                running_on=kind,
            )
    return left
