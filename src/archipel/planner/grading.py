"""A plan held against what then happened: of each forecast, what came.

graded(plan, Took(round_seconds={"biscoe": 0.21, …}, seconds=12.0, down_bytes=…, up_bytes=…))
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from archipel.spec import Grade, Plan


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """What a run took."""

    round_seconds: Mapping[str, float]
    """Site → median wall seconds of its work in a training round."""
    seconds: float
    """Wall time of the whole run."""
    down_bytes: int
    """From control to sites in training rounds."""
    up_bytes: int


def graded(plan: Plan, took: Took) -> tuple[Grade, ...]:
    """Return one grade a forecast; none where the plan forecast nothing."""
    grades = []
    if plan.seconds is not None:
        grades.append(Grade(what="the whole run", unit="seconds", planned=plan.seconds, came=took.seconds))
    for share in plan.participants:
        came = took.round_seconds.get(share.site)
        if share.seconds_per_round is not None and came is not None:
            what = f"a round at {share.site}"
            grades.append(Grade(what=what, unit="seconds", planned=share.seconds_per_round, came=came))
    for phase in plan.phases:
        if phase.kind == "train" and plan.model_bytes:
            ways = (("to sites", phase.down_bytes, took.down_bytes), ("from sites", phase.up_bytes, took.up_bytes))
            for way, planned, came in ways:
                both = (float(planned), float(planned))
                grades.append(Grade(what=f"training, {way}", unit="bytes", planned=both, came=float(came)))
    return tuple(grades)
