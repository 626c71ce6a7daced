"""Who is asked at a moment: of the clients that nobody has asked yet, those that are available, drawn from the seed.

Where too few of those looked at are available, it is those that will be first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container

from archipel.simulation.clock.devices import Devices
from archipel.simulation.clock.sessions import available_from
from archipel.simulation.population.permutation import Permutation
from archipel.simulation.population.port import Population

ASKED_STREAM = 0xA5CED
"""Keeps these draws apart from everything else that is drawn from a job's seed."""
LOOKED_AT = 100
"""Clients looked at for each that is wanted; more are not, where nearly everybody is away."""


def draw_available(
    population: Population,
    devices: Devices,
    size: int,
    *,
    seed: int,
    number: int,
    now: float,
    busy: Container[int] = (),
    fits: Callable[[int], bool] | None = None,
) -> list[int]:
    """Return up to `size` clients that are not busy and that fit, sorted; draw `number` of the seed.

    The first `size` that are available now, in the order of the draw; or else of LOOKED_AT times as many those that
    are available soonest.
    """
    order = Permutation(population.count, (seed, number, ASKED_STREAM))
    later: list[tuple[float, int, int]] = []
    chosen: list[int] = []
    looked = 0
    for place in range(population.count):
        if len(chosen) == size or looked == LOOKED_AT * size:
            break
        client = order(place)
        if client in busy:
            continue
        looked += 1
        if fits is not None and not fits(client):
            continue
        begins = now if devices.always else available_from(devices.device(client).sessions, now)
        if begins == now:
            chosen.append(client)
        else:
            later.append((begins, place, client))
    soonest = heapq.nsmallest(size - len(chosen), later)
    return sorted([*chosen, *(client for _, _, client in soonest)])
