"""Timelines of rounds: without time, waiting for all, and with a deadline and more clients than are needed.

With a deadline: ceil(over_selection * cohort) clients are asked; the round ends when `cohort` of them have answered, or
at the deadline. The rest stops then, and what it did is wasted. A round nobody made leaves the model as it is; it
counts as a round. Over-selection and the goal count: Bonawitz et al. 2019, "Towards Federated Learning at Scale: System
Design", arXiv:1902.01046, sections 2.2 and 9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from archipel.simulation.clock.fleet import Fleet, in_order
from archipel.simulation.clock.port import Assignment, Closed, Moment
from archipel.simulation.clock.selection import Selection
from archipel.simulation.population.port import Population, draw_cohort
from archipel.spec.job import Sampling
from archipel.spec.timing import Deadline


class Untimed:
    """Rounds that take no time."""

    listens = False

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

    def hear(self, step: int, losses: Mapping[int, float]) -> None:
        """Pass it over."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """When a round ends."""

    asked: int
    wanted: int
    """So many have answered."""
    deadline_seconds: float = math.inf
    """Or so much time has passed."""


class Rounds:
    """Rounds that last until enough clients have answered."""

    def __init__(self, fleet: Fleet, selection: Selection, *, rule: Rule, moment: Moment) -> None:
        self._fleet = fleet
        self._selection = selection
        self._rule = rule
        self._moment = moment

    @property
    def moment(self) -> Moment:
        """Where it is."""
        return msgspec.structs.replace(self._moment, heard=self._selection.heard)

    @property
    def listens(self) -> bool:
        """Does the selection go by what clients tell?"""
        return self._selection.listens

    def hear(self, step: int, losses: Mapping[int, float]) -> None:
        """Hand the losses on to the selection."""
        self._selection.hear(step, losses)

    def close(self, step: int) -> Closed:
        """Ask a cohort, and fold whoever answers in time."""
        began = self._moment.now
        chosen = self._selection.choose(step, self._rule.asked, began)
        asked = [self._fleet.give(client, step=step, now=began) for client in chosen]
        quickest = sorted(asked, key=lambda one: (one.ends, one.client))
        limit = began + self._rule.deadline_seconds
        folded = [one for one in quickest[: self._rule.wanted] if one.ends <= limit]
        enough = len(folded) == min(self._rule.wanted, len(asked))
        ended = folded[-1].ends if enough else limit
        before = self._moment
        self._moment = Moment(now=ended, made=before.made + bool(folded), numbered=before.numbered)
        return Closed(
            step=step,
            made=self._moment.made,
            folded=in_order(folded),
            asked=len(asked),
            began=began,
            ended=ended,
            worked_seconds=self._fleet.worked(folded),
            waste=self._fleet.wasted(quickest[len(folded) :], ended),
            slow=self._fleet.slow(folded),
        )


def over_selected(time: Deadline, cohort: int) -> int:
    """Return how many clients a round asks that wants so many."""
    # 1.1 times 10 are 11: what a float adds at the end is no client.
    return math.ceil(round(cohort * time.over_selection, 6))
