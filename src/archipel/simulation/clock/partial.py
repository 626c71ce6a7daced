"""The timeline of partial work: a round has a length, everybody does what fits, and who is late counts in a later one.

    round of 60 s    a quick client trains on all of its rows, a slow one on as many as let it answer within the minute
                     who cannot even with `least` of its rows answers late, is not asked meanwhile, and is folded in the
                     round in which it answers, scaled by its age as in FedBuff

So a round is as long as it is told to be, no work is thrown away but what is under way at the end, and slow clients are
heard as often as others. Partial work: Li et al. 2020, arXiv:1812.06127 (FedProx). Late updates: Abdelmoniem et al.,
"REFL: Resource-Efficient Federated Learning on Heterogeneous Data", EuroSys 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from archipel.simulation.clock.fleet import Fleet, in_order, numbered
from archipel.simulation.clock.port import Assignment, Closed, Moment, Waste
from archipel.simulation.clock.selection import Selection


class PartialRounds:
    """Rounds of one length."""

    def __init__(
        self,
        fleet: Fleet,
        selection: Selection,
        *,
        cohort: int,
        seconds: float,
        least: float,
        rounds: int,
        moment: Moment,
    ) -> None:
        """`seconds` is the length, `least` the share of its rows that a client trains on at the least."""
        self._fleet = fleet
        self._selection = selection
        self._cohort = cohort
        self._seconds = seconds
        self._least = least
        self._rounds = rounds
        self._moment = moment

    @property
    def listens(self) -> bool:
        """Does the selection go by what clients tell?"""
        return self._selection.listens

    @property
    def moment(self) -> Moment:
        """Where it is."""
        return msgspec.structs.replace(self._moment, heard=self._selection.heard)

    def hear(self, step: int, losses: Mapping[int, float]) -> None:
        """Hand the losses on to the selection."""
        self._selection.hear(step, losses)

    def close(self, step: int) -> Closed:
        """Ask a cohort, and fold whoever answers within the round."""
        before = self._moment
        limit = before.now + self._seconds
        busy = {one.client for one in before.flying}
        chosen = self._selection.choose(step, self._cohort, before.now, busy or ())
        given = [numbered(self._give(client, step), before.numbered + at) for at, client in enumerate(chosen)]
        flying = sorted((*before.flying, *given), key=lambda one: (one.ends, one.number))
        folded = [one for one in flying if one.ends <= limit]
        left = flying[len(folded) :]
        ended = limit if left or not folded else folded[-1].ends
        self._moment = Moment(
            now=ended,
            made=before.made + bool(folded),
            numbered=before.numbered + len(given),
            flying=tuple(left),
        )
        return Closed(
            step=step,
            made=self._moment.made,
            folded=in_order(folded),
            asked=len(given),
            began=before.now,
            ended=ended,
            worked_seconds=self._fleet.worked(folded),
            waste=self._fleet.wasted(left, ended) if step == self._rounds else Waste(),
            slow=self._fleet.slow(folded),
        )

    def _give(self, client: int, step: int) -> Assignment:
        """Give a client as many rows as fit."""
        fleet, now = self._fleet, self._moment.now
        rows = fleet.rows(client)
        device = fleet.devices.device(client)
        fitting = device.fitting(fleet.load, now, now + self._seconds, rows)
        return fleet.give(client, step=step, now=now, rows=max(fitting, min(math.ceil(self._least * rows), rows)))
