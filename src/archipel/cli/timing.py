"""Virtual time in words: how rounds end, how long they took, how old updates were, what was thrown away.

TimeTold.of("fedbuff", records).lines()      # ["simulated time: 3 h 12 min", "staleness: mean 5.03, …", …]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import msgspec

from archipel.cli import wording
from archipel.simulation.clock.report import RoundTime, TimeReport, reached
from archipel.simulation.clock.rounds import over_selected
from archipel.simulation.virtual import RoundRecord
from archipel.spec.job import SimulationSpec
from archipel.spec.timing import Deadline, FedBuff, Partial

BARS = 8
"""Ages of a histogram that are named one by one; the others are added up."""


class TimeTold(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulation's virtual time came to."""

    mode: str
    total: TimeReport
    wasted_share: float
    """Of all clients' seconds of work."""
    reached_seconds: dict[str, float]
    """Figure on the validation rows → simulated time at which it was first as good as at the last scoring."""

    @classmethod
    def of(cls, mode: str, records: Sequence[RoundRecord]) -> Self:
        """Add up what the rounds' records say of time."""
        total = TimeReport.of([record.simulated for record in records if isinstance(record.simulated, RoundTime)])
        return cls(mode=mode, total=total, wasted_share=total.wasted_share, reached_seconds=_reached(records))

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        total = self.total
        empty = f"; nobody answered in {total.empty_rounds} of {total.rounds} rounds" if total.empty_rounds else ""
        lines = [f"simulated time: {wording.duration(total.seconds)}{empty}"]
        if self.mode in {"fedbuff", "partial"} and total.staleness_mean is not None:
            counts = ", ".join(f"{old}: {wording.count(count)}" for old, count in _grouped(total.staleness))
            lines.append(
                f"staleness: mean {total.staleness_mean:.2f}, max {total.staleness_max}; updates by age {counts}"
            )
        if total.wasted_clients:
            share, spent = wording.share(self.wasted_share), wording.duration(total.wasted_seconds)
            rows = f"{wording.count(total.wasted_examples)} examples of {wording.count(total.wasted_clients)} clients"
            lines.append(f"wasted: {share} of the clients' work: {spent}, {rows}")
        if total.slow_share is not None:
            lines.append(f"heard: {wording.share(total.slow_share)} of the updates are of the slowest tenth of clients")
        told = [f"{name} {wording.duration(seconds)}" for name, seconds in sorted(self.reached_seconds.items())]
        return [*lines, f"as good as at the end after: {', '.join(told)}"] if told else lines


def describe_rounds(spec: SimulationSpec, population: int) -> str:
    """Say how many clients are asked, and when a round ends."""
    time, cohort = spec.time, min(spec.cohort, population)
    if isinstance(time, FedBuff):
        at_work = min(time.concurrency or spec.cohort, population)
        return f"{at_work:,} at work, a model each {time.buffer:,} updates"
    if isinstance(time, Partial):
        length = f"lasts as long as {wording.share(time.deadline_quantile)} of the clients take"
        if time.deadline_seconds is not None:
            length = f"lasts {wording.duration(time.deadline_seconds)}"
        return f"{cohort:,} a round, which {length}; who is late counts in a later one"
    if not isinstance(time, Deadline):
        return f"{cohort:,} a round"
    until = "" if time.deadline_seconds is None else f" or after {wording.duration(time.deadline_seconds)}"
    asked = min(over_selected(time, spec.cohort), population)
    return f"{asked:,} a round, which ends with {cohort:,} answers{until}"


def _reached(records: Sequence[RoundRecord]) -> dict[str, float]:
    scored = [(one.simulated.at_seconds, one.figures) for one in records if one.simulated and one.figures]
    courses: dict[str, list[tuple[float, float]]] = {}
    for at, figures in scored:
        for name, value in figures.items():
            if name not in wording.COUNTS:
                courses.setdefault(name, []).append((at, value))
    found = {name: reached(course, lower_is_better="loss" in name) for name, course in courses.items()}
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def _grouped(staleness: Sequence[int]) -> list[tuple[str, int]]:
    """Return the first ages one by one, and the rest as one."""
    named = [(str(age), count) for age, count in enumerate(staleness[:BARS])]
    rest = staleness[BARS:]
    return [*named, (f"{BARS} and more", sum(rest))] if rest else named
