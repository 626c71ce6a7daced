"""A selection that prefers clients whose loss is high and whose work is quick, and tries new ones.

Lai et al. 2021, "Oort: Efficient Federated Learning via Guided Participant Selection", OSDI, algorithm 1:

    utility of a client      rows * loss, at most that of 95 % of the clients; (T / t)^alpha of it where t > T
                             + sqrt(0.1 log(round) / when it took part last)
    exploit                  (1 - eps) of a cohort among those within 95 % of the best, with chances by utility
    explore                  the rest among those never asked, with chances by speed; eps falls from 0.9 to 0.2

It is the paper's but for three things: clients tell a mean loss, not the root of the mean square; T stays a quantile of
what clients take, and is not paced; new ones are chosen among some that are drawn, not among all there are.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from archipel.simulation.clock.drawing import draw_available
from archipel.simulation.clock.fleet import Fleet
from archipel.simulation.clock.port import Heard
from archipel.simulation.clock.sessions import available_from

OORT_STREAM = 0x00027
FIRST_EXPLORING, FEWER, LEAST_EXPLORING = 0.9, 0.98, 0.2
CUT_OFF, CLIPPED = 0.95, 0.95
UNCERTAIN = 0.1
LOOKED_AT = 4
"""New clients that are drawn for each that is taken."""


class Oort:
    """Guided selection."""

    listens = True

    def __init__(self, fleet: Fleet, *, preferred: float, slow_penalty: float, heard: Sequence[Heard]) -> None:
        """`preferred` is the quantile of clients' times that is T, `slow_penalty` is alpha; `heard` is told so far."""
        self._fleet = fleet
        self._preferred = fleet.quantile(preferred)
        self._penalty = slow_penalty
        self._heard = {one.client: one for one in heard}

    @property
    def heard(self) -> tuple[Heard, ...]:
        """All that it goes by beside the seed."""
        return tuple(self._heard[client] for client in sorted(self._heard))

    def hear(self, step: int, losses: Mapping[int, float]) -> None:
        """Take note of the mean loss of each client folded in a round."""
        for client, loss in losses.items():
            self._heard[client] = Heard(client=client, step=step, utility=self._fleet.rows(client) * loss)

    def choose(self, step: int, size: int, now: float, busy: Container[int] = ()) -> list[int]:
        """Return clients known to be useful, and new ones."""
        rng = np.random.default_rng((self._fleet.seed, step, OORT_STREAM))
        known = [one for one in self.heard if one.client not in busy and self._is_there(one.client, now)]
        exploring = max(LEAST_EXPLORING, FIRST_EXPLORING * FEWER ** (step - 1))
        new = self._new(rng, step, max(round(exploring * size), size - len(known)), now, busy)
        return sorted([*new, *self._useful(rng, known, step, size - len(new))])

    def _useful(self, rng: np.random.Generator, known: Sequence[Heard], step: int, size: int) -> list[int]:
        if size >= len(known):
            return [one.client for one in known]
        if not size:
            return []
        score = self._scores(known, step)
        kept = np.flatnonzero(score >= CUT_OFF * np.sort(score)[-size])
        chances = score[kept] / score[kept].sum()
        return [known[at].client for at in rng.choice(kept, size, replace=False, p=chances)]

    def _scores(self, known: Sequence[Heard], step: int) -> npt.NDArray[np.float64]:
        """Return positive scores, the largest utility being about 1."""
        utility = np.array([one.utility for one in known])
        utility = np.minimum(utility, np.quantile(utility, CLIPPED))
        utility = utility / max(float(utility.max()), 1e-300)
        last = np.array([one.step for one in known])
        taken = np.array([self._fleet.seconds(one.client) for one in known])
        slower = np.minimum(1.0, self._preferred / np.maximum(taken, 1e-300)) ** self._penalty
        scores: npt.NDArray[np.float64] = (utility + np.sqrt(UNCERTAIN * math.log(step) / last)) * slower
        return np.maximum(scores, 1e-12)

    def _new(self, rng: np.random.Generator, step: int, size: int, now: float, busy: Container[int]) -> list[int]:
        fleet = self._fleet
        drawn = draw_available(
            fleet.population,
            fleet.devices,
            LOOKED_AT * size,
            seed=fleet.seed,
            number=step,
            now=now,
            busy=busy,
            fits=lambda client: client not in self._heard,
        )
        if len(drawn) <= size:
            return drawn
        speed = 1 / np.maximum([fleet.seconds(client) for client in drawn], 1e-9)
        return [drawn[at] for at in rng.choice(len(drawn), size, replace=False, p=speed / speed.sum())]

    def _is_there(self, client: int, now: float) -> bool:
        devices = self._fleet.devices
        return devices.always or available_from(devices.device(client).sessions, now) == now
