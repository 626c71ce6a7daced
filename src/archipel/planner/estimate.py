"""Seconds of a site's round, from two timed batches and what each round then took: history in, estimate out.

    t = t_down + E ceil(n/b) (alpha + beta b) + t_up

alpha is what a batch takes whatever its size, beta what an example adds. Two batch sizes tell both, one tells neither:

    rate = batch_rate([Probe(batch=16, time=…), Probe(batch=64, time=…)])
    pace = SitePace(rate=rate, down=…, up=…)
    pace = pace.after(work, seconds=12.4)             # an executed round corrects it, half way
    round_time([pace.seconds(work) for …], cohort=10)

A round ends with the slowest of its cohort, so its time is an order statistic over sites, never their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from archipel.spec.errors import SpecError
from archipel.spec.fleet import Probe

_WEIGHT = 0.5
"""Of the newest round in the corrected pace (an exponentially weighted mean)."""


@dataclass(frozen=True, kw_only=True)
class BatchRate:
    """What batches take at a site: alpha + beta b seconds for b examples."""

    alpha: float
    """Seconds a batch."""
    beta: float
    """Seconds an example."""


@dataclass(frozen=True, kw_only=True)
class RoundWork:
    """What a round asks of a site."""

    rows: int
    epochs: int
    batch: int
    """Examples in a batch; the last of an epoch is taken as full."""
    down_bytes: float
    up_bytes: float

    @property
    def batches(self) -> int:
        """Batches of the round."""
        return self.epochs * math.ceil(self.rows / self.batch)


@dataclass(frozen=True, kw_only=True)
class SitePace:
    """How fast a site is known to be."""

    rate: BatchRate
    down: float = math.inf
    """B/s from control; infinity: takes no time."""
    up: float = math.inf
    """B/s to control."""
    correction: float = 1.0
    """Measured over predicted seconds of computing, of the rounds so far."""

    def compute_seconds(self, work: RoundWork) -> float:
        """Return seconds of computing."""
        return self.correction * work.batches * (self.rate.alpha + self.rate.beta * work.batch)

    def seconds(self, work: RoundWork) -> float:
        """Return seconds of the whole round at this site."""
        return work.down_bytes / self.down + self.compute_seconds(work) + work.up_bytes / self.up

    def after(self, work: RoundWork, *, seconds: float) -> SitePace:
        """Return the pace that a round which took `seconds` to compute here has taught."""
        predicted = self.compute_seconds(work)
        if predicted <= 0 or seconds <= 0:
            return self
        # A geometric mean: twice as long and half as long cancel.
        return replace(self, correction=self.correction * (seconds / predicted) ** _WEIGHT)


def batch_rate(probes: Iterable[Probe]) -> BatchRate | None:
    """Fit alpha and beta to timed batches by least squares; None with fewer than two sizes.

    Neither is taken below 0: timer noise on small batches would otherwise make large ones free.
    """
    points = [(probe.batch, probe.time.value) for probe in probes]
    if len({batch for batch, _ in points}) < 2:
        return None
    count = len(points)
    mean_batch, mean_time = sum(batch for batch, _ in points) / count, sum(time for _, time in points) / count
    spread = sum((batch - mean_batch) ** 2 for batch, _ in points)
    slope = sum((batch - mean_batch) * (time - mean_time) for batch, time in points) / spread
    if slope < 0:
        return BatchRate(alpha=mean_time, beta=0.0)
    if mean_time < slope * mean_batch:
        squares = sum(batch * batch for batch, _ in points)
        return BatchRate(alpha=0.0, beta=sum(batch * time for batch, time in points) / squares)
    return BatchRate(alpha=mean_time - slope * mean_batch, beta=slope)


def round_time(each: Sequence[float], cohort: int) -> float:
    """Return the expected seconds of a round whose cohort is drawn without replacement from all sites.

    With the times in order, the i-th of N is the slowest of K with probability C(i-1, K-1) / C(N, K): so many cohorts
    have their other members among the i-1 faster sites.
    """
    return sum(time * share for time, share in zip(sorted(each), _slowest(len(each), cohort), strict=True))


def round_quantile(each: Sequence[float], cohort: int, probability: float) -> float:
    """Return the seconds within which a round ends with at least this probability."""
    reached = 0.0
    for time, share in zip(ordered := sorted(each), _slowest(len(each), cohort), strict=True):
        reached += share
        if reached >= probability - 1e-12:
            return time
    return ordered[-1]


def _slowest(sites: int, cohort: int) -> list[float]:
    """Return for each site, in order of its time, the probability that it is the slowest of a cohort."""
    if not 1 <= cohort <= sites:
        raise SpecError(f"a cohort of {cohort} among {sites} sites", hint="between one site and all of them")
    chances = [0.0] * sites
    chances[-1] = cohort / sites
    for index in range(sites - 1, cohort - 1, -1):  # C(i-1, K-1) from C(i, K-1), without large numbers
        chances[index - 1] = chances[index] * (index - cohort + 1) / index
    return chances
