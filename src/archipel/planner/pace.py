"""Time of a run: an interval where nothing was measured, the range of past rounds where something was.

Without a probe, the time of a round at a site is between FAST and SLOW: per example and epoch 6 operations a
parameter (forward 2, backward 4; SLOW allows ten uses of each parameter, as in convolutions and sequences), and an
overhead per batch. The interval is wide on purpose: figures without a measurement are off by a factor of two and
more either way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from archipel.planner.estimate import round_time
from archipel.spec import JobSpec

Interval = tuple[float, float]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of the same work took."""

    round_seconds: Mapping[str, Sequence[float]]
    """Site → wall seconds of its work in training rounds."""
    overhead_seconds: float
    """What a training round took beyond the slowest site's work: transfers, folding, waiting."""
    other_seconds: float | None = None
    """Everything but training rounds; None: it was not asked for as it is now."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a machine is taken to be."""

    operations_per_second: float
    uses_per_parameter: float
    batch_seconds: float
    """Overhead of one batch, whatever its size."""
    bytes_per_second: float


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What a site measured of itself; None: not known."""

    operations_per_second: float | None = None
    """Of matrix products in float32 on one core, which is what a worker has."""
    down: float | None = None
    """B/s from control."""
    up: float | None = None
    """B/s to control."""


FAST = Pace(operations_per_second=5e10, uses_per_parameter=1, batch_seconds=2e-5, bytes_per_second=1e8)
SLOW = Pace(operations_per_second=2e9, uses_per_parameter=10, batch_seconds=5e-3, bytes_per_second=1e6)
ASSUMPTIONS = (
    "unprobed: 6 operations a parameter, example and epoch, each parameter used 1 to 10 times",
    "unprobed: 2 to 50 GFLOP/s a site, 0.02 to 5 ms a batch",
    "links of 1 to 100 MB/s a site",
)
MEASURED = "where a site's inventory has them, 4 to 100 % of its measured rate, and its measured links, stand for these"


def round_seconds(job: JobSpec, rows: int, model_bytes: int, reach: Reach | None = None) -> Interval:
    """Return the likely wall time of one training round at a site with `rows`, transfers included."""
    fast, slow = (_seconds(job, rows, model_bytes, pace, reach or Reach()) for pace in (FAST, SLOW))
    return fast, slow


def seen_seconds(past: Sequence[float]) -> Interval:
    """Return the range of measured rounds."""
    return min(past), max(past)


def run_seconds(job: JobSpec, cohort: int, each: Sequence[Interval], seen: Seen | None = None) -> Interval:
    """Return the likely wall time of the whole run: a round takes as long as the slowest of its cohort.

    Of a cohort drawn from more sites that is the mean over all cohorts, and what `seen` took beyond. Where that run
    tells nothing of the rest, scoring is taken as a third of an epoch, training alone as all rounds, fine-tuning as its
    epochs.
    """
    federation, evaluation = job.federation, job.evaluation
    beyond = 0.0 if seen is None else seen.overhead_seconds
    low, high = (round_time([interval[end] for interval in each], cohort) + beyond for end in (0, 1))
    if seen is not None and seen.other_seconds is not None:
        return federation.rounds * low + seen.other_seconds, federation.rounds * high + seen.other_seconds
    epochs = federation.local.epochs
    scored = 1 + (federation.rounds // evaluation.every if evaluation.every else 0)
    once = scored / (3 * epochs) + evaluation.personalise_epochs / epochs
    everybody = once + (federation.rounds if evaluation.alone else 0)
    low_all, high_all = (max(interval[end] for interval in each) for end in (0, 1))
    return federation.rounds * low + everybody * low_all, federation.rounds * high + everybody * high_all


def _seconds(job: JobSpec, rows: int, model_bytes: int, pace: Pace, reach: Reach) -> float:
    local = job.federation.local
    operations = 6 * (model_bytes / 4) * rows * local.epochs * pace.uses_per_parameter
    batches = math.ceil(rows / local.batch_size) * local.epochs
    moved = sum(model_bytes / (speed or pace.bytes_per_second) for speed in (reach.down, reach.up))
    rate = pace.operations_per_second
    if reach.operations_per_second is not None:
        rate *= reach.operations_per_second / FAST.operations_per_second
    return operations / rate + batches * pace.batch_seconds + moved
