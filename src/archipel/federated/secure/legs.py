"""The legs of a secure sum, and which sums of a run are secure."""

from __future__ import annotations

from typing import get_args

from archipel.spec import JobSpec, Kind, Leg

SECURED: tuple[Kind, ...] = ("statistics", "train", "evaluate")
"""Kinds of rounds whose answers are only ever added up."""
LEGS: tuple[Leg, ...] = get_args(Leg)
_WITH_HELPER: tuple[Leg, ...] = ("compute", "advertise", "mask", "release")
"""Those of a sum with a helper, who is asked alone in the second and the last."""
PROTOCOL = frozenset(LEGS[1:])
"""Legs in which sites speak the protocol; the first is the work itself."""
TRIED_AGAIN = PROTOCOL - {"release"}
"""Legs from which an attempt may begin anew: nothing that takes masks off is out yet."""
LEAST_SITES = 3
"""With two sites, each reads the other's update off the sum."""


def is_secure(job: JobSpec) -> bool:
    """Does the job ask for secure aggregation?"""
    return job.privacy.secure_aggregation != "none"


def legs_of_sum(job: JobSpec) -> tuple[Leg, ...]:
    """Return the rounds that one sum of the job takes."""
    return _WITH_HELPER if job.privacy.secure_aggregation == "two-server" else LEGS


def number_of(kind: Kind, step: int) -> int:
    """Return the number of a sum in its run: the same for every attempt at it, another for every other sum.

    >>> number_of("train", 2), number_of("evaluate", 0)
    (7, 2)
    """
    return len(SECURED) * step + SECURED.index(kind)
