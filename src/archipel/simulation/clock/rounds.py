"""Timelines of rounds: without time, waiting for all, and with a deadline and more clients than are needed.

With a deadline: ceil(over_selection * cohort) clients are asked; the round ends when `cohort` of them have answered, or
at the deadline. The rest stops then, and what it did is wasted. A round nobody made leaves the model as it is; it
counts as a round. Over-selection and the goal count: Bonawitz et al. 2019, "Towards Federated Learning at Scale: System
Design", arXiv:1902.01046, sections 2.2 and 9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from archipel.simulation.clock.devices import Devices, Load
from archipel.simulation.clock.drawing import draw_available
from archipel.simulation.clock.port import Assignment, Closed, Moment, Waste
from archipel.simulation.population.port import Population, draw_cohort
from archipel.spec.job import Sampling
from archipel.spec.timing import Deadline


class Untimed:
    """Rounds that take no time."""

    def __init__(self, population: Population, cohort: int, seed: int, moment: Moment, *, sampling: Sampling) -> None:
        self._population = population
        self._cohort = cohort
        self._sampling = sampling
        self._seed = seed
        self.moment = moment

    def close(self, step: int) -> Closed:
        """Fold the whole cohort."""
        cohort = draw_cohort(self._population, self._cohort, self._seed, step, sampling=self._sampling)
        self.moment = Moment(made=self.moment.made + 1)
        folded = tuple(Assignment(client=client, step=step, ends=0.0) for client in cohort)
        return Closed(step=step, made=self.moment.made, folded=folded, asked=len(folded))


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """When a round ends."""

    asked: int
    wanted: int
    """So many have answered."""
    deadline_seconds: float = math.inf
    """Or so much time has passed."""


class Rounds:
    """Rounds that last until enough clients have answered."""

    def __init__(
        self, population: Population, devices: Devices, load: Load, *, rule: Rule, seed: int, moment: Moment
    ) -> None:
        self._population = population
        self._devices = devices
        self._load = load
        self._rule = rule
        self._seed = seed
        self.moment = moment

    def close(self, step: int) -> Closed:
        """Ask a cohort, and fold whoever answers in time."""
        began = self.moment.now
        asked = self._ask(step, began)
        quickest = sorted(asked, key=lambda one: (one.ends, one.client))
        limit = began + self._rule.deadline_seconds
        folded = [one for one in quickest[: self._rule.wanted] if one.ends <= limit]
        enough = len(folded) == min(self._rule.wanted, len(asked))
        ended = folded[-1].ends if enough else limit
        self.moment = Moment(now=ended, made=self.moment.made + bool(folded), numbered=self.moment.numbered)
        return Closed(
            step=step,
            made=self.moment.made,
            folded=tuple(sorted(folded, key=lambda one: one.client)),
            asked=len(asked),
            began=began,
            ended=ended,
            worked_seconds=math.fsum(self._seconds(one) for one in folded),
            waste=wasted(self._devices, self._load, quickest[len(folded) :], ended),
        )

    def _ask(self, step: int, now: float) -> list[Assignment]:
        size = self._rule.asked
        if self._devices.always:
            cohort = draw_cohort(self._population, size, self._seed, step)
        else:
            cohort = draw_available(self._population, self._devices, size, seed=self._seed, number=step, now=now)
        return [
            assign(self._population, self._devices, self._load, client=client, step=step, now=now) for client in cohort
        ]

    def _seconds(self, one: Assignment) -> float:
        return self._devices.device(one.client).seconds(self._load, one.rows)


def over_selected(time: Deadline, cohort: int) -> int:
    """Return how many clients a round asks that wants so many."""
    # 1.1 times 10 are 11: what a float adds at the end is no client.
    return math.ceil(round(cohort * time.over_selection, 6))


def assign(population: Population, devices: Devices, load: Load, *, client: int, step: int, now: float) -> Assignment:
    """Give a client the model that begins round `step`, now."""
    rows = len(population.rows(client))
    ends = devices.device(client).finish(load, now, rows)
    return Assignment(client=client, step=step, ends=ends, began=now, rows=rows)


def wasted(devices: Devices, load: Load, assignments: Sequence[Assignment], until: float) -> Waste:
    """Add up what clients did until then for nothing."""
    spent = [devices.device(one.client).worked(load, one.began, until, one.rows) for one in assignments]
    return Waste(
        clients=len(spent),
        examples=sum(rows for _, rows in spent),
        seconds=math.fsum(seconds for seconds, _ in spent),
    )
