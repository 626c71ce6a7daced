"""A fleet among jobs over time: who runs on which kind of device in the next interval.

    shared = share_fleet(jobs, {"v100": 8, "k80": 24}, rules=Rules(objective="weighted-completion"))
    shared.placed                     # job → kind of device, of those that run
    shared.value, shared.bound        # nothing that fits is worth more than the bound

Asked anew before each interval, with what is left of each job. A job gets all devices that it needs, of one kind, or
waits. Each job is worth something on each kind, and the mixed-integer program picks what is worth most and fits:

    weighted-completion   weight (1 + age / aging.seconds)^aging.power min(1, interval rate / remaining)
    makespan              devices (remaining / rate on its fastest kind) (rate / rate on its fastest kind)

The first is Smith's rule (Naval Res. Logistics Quarterly 3, 1956: weight over the time that is left) for devices that
differ; aging lifts who has waited, without end, so that no stream of short jobs keeps a long one out. The second is the
longest-first rule of list scheduling (Graham, SIAM J. Appl. Math. 17, 1969), which leaves no long job for the end. A
job that stays where it is counts more by `stickiness`, for what a move costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from archipel.planner.solver import Floats, Program, solve
from archipel.spec.errors import InfeasibleError, SpecError, UnknownNameError

Goal = Literal["weighted-completion", "makespan"]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A job that wants devices, as it stands before the interval."""

    job: str
    remaining: float
    """Work that is left, in any unit; > 0."""
    rates: Mapping[str, float]
    """Kind of device → work a second on all of its devices together; 0 or absent: it does not run there."""
    devices: int = 1
    """How many of one kind it needs at once."""
    weight: float = 1.0
    """How much its end is worth beside others'; > 0."""
    age: float = 0.0
    """Seconds since it was submitted."""
    running_on: str | None = None
    """Kind that it ran on in the interval before; None: it did not run."""


@dataclass(frozen=True, kw_only=True)
class Aging:
    """How waiting lifts a job's weight: by (1 + age / seconds)^power; for the makespan neither counts."""

    seconds: float = 7200.0
    power: float = 1.0
    """0: waiting lifts nothing, and a job may starve."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the fleet is shared for."""

    objective: Goal = "weighted-completion"
    interval: float = 360.0
    """Seconds until it is asked again."""
    stickiness: float = 0.05
    """How much more, as a share, a job is worth where it runs already."""
    aging: Aging = field(default_factory=Aging)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Who runs where in the next interval."""

    placed: Mapping[str, str]
    """Job → kind of device; a job that waits is not in it."""
    value: float
    """What the placed jobs are worth together, by the rules' objective."""
    bound: float
    """Nothing that fits is worth more."""

    @property
    def gap(self) -> float:
        """How far the best may be above `value`, as a share of `value`."""
        return self.bound / self.value - 1 if self.value > 0 else 0.0 if self.bound <= 0 else np.inf


def share_fleet(
    contenders: Sequence[Contender], fleet: Mapping[str, int], *, rules: Rules | None = None, seconds: float = 5.0
) -> Shared:
    """Share `fleet` (kind → devices) among `contenders` for one interval, searching for up to `seconds`.

    Raises:
        SpecError: a figure of a contender, the fleet or the rules makes no sense, or two contenders are of one job.
        InfeasibleError: a job fits on no kind of device, even alone.
    """
    given = rules or Rules()
    _check(contenders, fleet, given)
    pairs = [(contender, kind) for contender in contenders for kind in _fitting(contender, fleet)]
    if not pairs:
        return Shared(placed={}, value=0.0, bound=0.0)
    worth = np.array([_worth(contender, kind, fleet, given) for contender, kind in pairs])
    scale = float(worth.max())  # the solver's tolerances are absolute
    solved = solve(_program(worth / scale, pairs, fleet), seconds=seconds)
    taken = np.flatnonzero(solved.values > 0.5)  # none, where time ran out before anything was found
    value = float(worth[taken].sum())
    bound = min(max(-solved.bound * scale, value), float(worth.sum()))
    return Shared(placed={pairs[at][0].job: pairs[at][1] for at in taken}, value=value, bound=bound)


def _check(contenders: Sequence[Contender], fleet: Mapping[str, int], rules: Rules) -> None:
    """Refuse what contradicts itself, naming it."""
    if rules.objective not in get_args(Goal):
        raise UnknownNameError.of("objective", rules.objective, get_args(Goal))
    _check_figure("rules", "interval", rules.interval, above=0)
    _check_figure("rules", "stickiness", rules.stickiness)
    _check_figure("rules", "aging.seconds", rules.aging.seconds, above=0)
    _check_figure("rules", "aging.power", rules.aging.power)
    for kind, count in fleet.items():
        _check_figure(f"fleet, {kind}", "devices", count)
    seen: set[str] = set()
    for contender in contenders:
        if contender.job in seen:
            raise SpecError(f"job named twice: {contender.job!r}", hint="give each job once")
        seen.add(contender.job)
        _check_contender(contender, fleet)


def _check_contender(contender: Contender, fleet: Mapping[str, int]) -> None:
    where = f"job {contender.job!r}"
    _check_figure(where, "remaining", contender.remaining, above=0)
    _check_figure(where, "weight", contender.weight, above=0)
    _check_figure(where, "devices", contender.devices, above=0)
    _check_figure(where, "age", contender.age)
    for kind, rate in contender.rates.items():
        _check_figure(where, f"rate on {kind}", rate)
    for kind in (*contender.rates, *([contender.running_on] if contender.running_on else [])):
        if kind not in fleet:
            raise UnknownNameError.of("kind of device", kind, fleet)
    if not _fitting(contender, fleet):
        most = max((fleet[kind] for kind, rate in contender.rates.items() if rate > 0), default=0)
        raise InfeasibleError(
            f"{where} fits on no kind of device: it needs {contender.devices} of one kind",
            hint=f"there are {most} at the most of the kinds that it runs on"
            if most
            else "give it a rate on some kind",
        )


def _check_figure(where: str, name: str, value: float, *, above: float | None = None) -> None:
    if not np.isfinite(value) or value < 0 or value == above:
        wanted = "a number from 0 up" if above is None else "a number above 0"
        raise SpecError(f"{where}: {name} = {value:g}", hint=f"{name} is {wanted}")


def _fitting(contender: Contender, fleet: Mapping[str, int]) -> list[str]:
    """Kinds of device that the job runs on and that have enough, in the fleet's order."""
    return [kind for kind, count in fleet.items() if contender.rates.get(kind, 0) > 0 and contender.devices <= count]


def _worth(contender: Contender, kind: str, fleet: Mapping[str, int], rules: Rules) -> float:
    """What `contender` is worth on `kind` for an interval: the formulas above."""
    rate = contender.rates[kind]
    stays = 1 + rules.stickiness if contender.running_on == kind else 1.0
    if rules.objective == "weighted-completion":
        aged: float = (1 + contender.age / rules.aging.seconds) ** rules.aging.power
        return stays * contender.weight * aged * min(1.0, rules.interval * rate / contender.remaining)
    fastest = max(contender.rates[other] for other in _fitting(contender, fleet))
    return stays * contender.devices * contender.remaining / fastest * rate / fastest


def _program(worth: Floats, pairs: Sequence[tuple[Contender, str]], fleet: Mapping[str, int]) -> Program:
    """Most worth, where each job runs on one kind at the most and no kind runs out of devices."""
    kinds = {kind: at for at, kind in enumerate(fleet)}
    jobs: dict[str, int] = {}
    job = [jobs.setdefault(contender.job, len(jobs)) for contender, _ in pairs]
    kind = [len(jobs) + kinds[kind] for _, kind in pairs]
    count = len(pairs)
    return Program(
        cost=-worth,
        upper=np.ones(count),
        whole=np.full(count, fill_value=True),
        row=np.array(job + kind, np.int32),
        column=np.tile(np.arange(count, dtype=np.int32), 2),
        entry=np.array([1.0] * count + [contender.devices for contender, _ in pairs]),
        low=np.full(len(jobs) + len(fleet), -np.inf),
        high=np.array([1.0] * len(jobs) + list(fleet.values())),
    )
