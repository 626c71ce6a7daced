"""Secure sums: ours beside the plain sum and beside Flower's SecAgg+, sessions in one process, bytes in memory.

What 10 and 100 sites compute, and where it goes, is told by `python -m secagg`; here the totals take turns with
Flower's. Neighbours and threshold are the same for both; Flower's shares have one more, for it counts the site itself.
"""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

from archipel.security.secagg import Assumptions
from environments import environment
from rounds import flower
from secagg.__main__ import CONTROL_SECONDS, MILD, OVER_PLAIN_SECONDS, SITE_MILLISECONDS
from secagg.federation import Federation
from trust.figure import Figure, cpu_seconds

_SESSION = Path(__file__).parent / "flower_session.py"


@functools.cache
def _federation(count: int, parameters: int, assumptions: Assumptions) -> Federation:
    made = Federation.drawn(count, parameters, assumptions)
    made.play(())
    return made


def few(parameters: int) -> list[Figure]:
    """Ten sites, nobody drops out: all sites and control together."""
    federation = _federation(10, parameters, MILD)
    plain = cpu_seconds(federation.add_in_the_open)
    spent = federation.play(())
    secure = sum(spent.sites.values()) + spent.control
    what = f"secure sum, 10 x {parameters:,}, all together"
    return [
        Figure(f"{what}: plain weighted sum", plain, "CPU-s"),
        Figure(f"{what}: archipel over plain", secure - plain, "CPU-s", OVER_PLAIN_SECONDS),
    ]


def few_by_flower(parameters: int) -> list[Figure]:
    """The same by Flower, complete graph, the same threshold."""
    shape = _federation(10, parameters, MILD).shape
    spent = _flower(10, parameters, shape.neighbours + 1, shape.threshold, gone=0)
    return [Figure(f"secure sum, 10 x {parameters:,}, all together: Flower", spent["all"], "CPU-s")]


def many(parameters: int) -> list[Figure]:
    """A hundred sites, ten drop out after they have shared keys."""
    federation = _federation(100, parameters, MILD)
    spent = federation.play(federation.sites[::10])
    finished = [seconds for site, seconds in spent.sites.items() if site not in spent.gone]
    what = _many(federation, parameters)
    return [
        Figure(f"{what}: archipel, a site", 1e3 * statistics.median(finished), "CPU-ms", SITE_MILLISECONDS),
        Figure(f"{what}: archipel, control", spent.control, "CPU-s", CONTROL_SECONDS),
    ]


def many_by_flower(parameters: int) -> list[Figure]:
    """The same by Flower."""
    federation = _federation(100, parameters, MILD)
    spent = _flower(100, parameters, federation.shape.neighbours + 1, federation.shape.threshold, gone=10)
    what = _many(federation, parameters)
    return [
        Figure(f"{what}: Flower, a site", 1e3 * spent["site"], "CPU-ms"),
        Figure(f"{what}: Flower, control", spent["control"], "CPU-s"),
    ]


TURNS: tuple[Callable[[int], list[Figure]], ...] = (few, few_by_flower, many)
ONCE: tuple[Callable[[int], list[Figure]], ...] = (many_by_flower,)


def _many(federation: Federation, parameters: int) -> str:
    shape = federation.shape
    return f"secure sum, 100 x {parameters:,}, k={shape.neighbours}, t={shape.threshold}, 10 drop out"


def _flower(sites: int, parameters: int, shares: int, threshold: int, *, gone: int) -> dict[str, float]:
    python = environment("flower", f"flwr=={flower.VERSION}")
    words = [str(python), str(_SESSION), *map(str, (sites, parameters, shares, threshold, gone))]
    ended = subprocess.run(words, capture_output=True, check=True, text=True)
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found
