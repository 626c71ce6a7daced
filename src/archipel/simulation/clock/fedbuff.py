"""The timeline of FedBuff: clients train all the time, and each K updates make a model.

Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation", arXiv:2106.06639, Algorithm 1:

    1. `concurrency` clients are at work, each from the model that there was when it began.
    2. An update that arrives goes into the buffer; with the K-th the server makes its step and empties the buffer.
    3. The client's place is taken by another, drawn from those that are not at work.

An update's staleness tau is the number of models made since its client began; it counts 1 / sqrt(1 + tau), as in the
paper's experiments. Of updates that arrive at the same instant the one given first is taken first, and all are taken
before places are filled. So where all devices are alike, concurrency and K are the cohort and the cohort is everybody,
the models are those of synchronous rounds.

A timeline ends with the last round: what is under way then is thrown away.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping

from archipel.simulation.clock.drawing import draw_available
from archipel.simulation.clock.fleet import Fleet, in_order, numbered
from archipel.simulation.clock.port import Assignment, Closed, Moment, Waste

Event = tuple[float, int, Assignment]
"""When an update arrives, the number of the assignment, which decides between equal times, and what arrives."""


class Buffered:
    """Clients at work, and a buffer."""

    listens = False

    def __init__(
        self,
        fleet: Fleet,
        *,
        concurrency: int,
        buffer: int,
        rounds: int,
        moment: Moment,
    ) -> None:
        self._fleet = fleet
        self._concurrency = min(concurrency, fleet.population.count)
        self._buffer = buffer
        self._rounds = rounds
        self._now = moment.now
        self._made = moment.made
        self._numbered = moment.numbered
        self._flying: list[Event] = [(one.ends, one.number, one) for one in moment.flying]
        heapq.heapify(self._flying)
        self._busy = {one.client for one in moment.flying}

    @property
    def moment(self) -> Moment:
        """Where it is."""
        flying = tuple(one for _, _, one in sorted(self._flying))
        return Moment(now=self._now, made=self._made, numbered=self._numbered, flying=flying)

    def close(self, step: int) -> Closed:
        """Let time pass until the buffer is full."""
        began, before = self._now, self._numbered
        given, buffer = Counter[int](), list[Assignment]()
        while len(buffer) < self._buffer:
            if not self._flying or self._flying[0][0] > self._now:
                self._fill(step, given)
            self._now, _, landed = heapq.heappop(self._flying)
            self._busy.remove(landed.client)
            buffer.append(landed)
        self._made += 1
        return Closed(
            step=step,
            made=self._made,
            folded=in_order(buffer),
            asked=self._numbered - before,
            began=began,
            ended=self._now,
            worked_seconds=self._fleet.worked(buffer),
            waste=self._left_over() if step == self._rounds else Waste(),
            slow=self._fleet.slow(buffer),
        )

    def hear(self, step: int, losses: Mapping[int, float]) -> None:
        """Pass it over."""

    def _fill(self, step: int, given: Counter[int]) -> None:
        """Give work to as many clients as there are free places."""
        places = self._concurrency - len(self._flying)
        if not places:
            return
        drawn = draw_available(
            self._fleet.population,
            self._fleet.devices,
            places,
            seed=self._fleet.seed,
            number=self._numbered,
            now=self._now,
            busy=self._busy,
        )
        for client in drawn:
            one = numbered(self._fleet.give(client, step=step, now=self._now), self._numbered, given[client])
            heapq.heappush(self._flying, (one.ends, one.number, one))
            self._busy.add(client)
            given[client] += 1
            self._numbered += 1

    def _left_over(self) -> Waste:
        return self._fleet.wasted([one for _, _, one in self._flying], self._now)


def staleness_scale(staleness: int) -> float:
    """Return what an update counts that is so many models old."""
    return 1.0 / math.sqrt(1.0 + staleness)
