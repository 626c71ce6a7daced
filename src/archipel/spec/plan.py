"""Plan: what a run will take, shown before it starts."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from archipel.spec.canonical import Digest, Name, Value
from archipel.spec.compression import CompressionKind
from archipel.spec.privacy import Guarantee
from archipel.spec.round import Kind


class SiteShare(Value, frozen=True, kw_only=True):
    """One site's part in a plan."""

    site: Name
    rows: int
    labels: dict[str, int] = field(default_factory=dict)
    seconds_per_round: tuple[float, float] | None = None
    """Likely interval of wall time, unprobed; None: nothing known yet."""
    compression: CompressionKind = "none"
    """How its updates are written."""
    update_bytes: int = 0
    """Of one of them; 0: not known yet."""


class PhaseBytes(Value, frozen=True, kw_only=True):
    """What one kind of round moves over the whole run, all sites together."""

    kind: Kind
    rounds: int
    """How many rounds of this kind the run has."""
    down_bytes: int
    """From control to sites."""
    up_bytes: int
    """From sites to control."""


class SecurePlan(Value, frozen=True, kw_only=True):
    """How a job's sums are made secret."""

    mode: Literal["secagg", "two-server"] = "secagg"
    sites: int
    """Sites of a sum, where none drops out."""
    threshold: int | None
    """Sites whose shares together open what one site keeps secret; None: a helper takes the masks off."""
    quorum: int
    """Sites that must be left at every stage, or there is no sum."""
    learns: tuple[str, ...]
    """What control comes to know, as sentences."""
    helper: Name | None = None
    helper_learns: tuple[str, ...] = ()
    """What the helper comes to know, as sentences."""


class Grade(Value, frozen=True, kw_only=True):
    """One forecast of a plan, and what came."""

    what: str
    """Such as "a round at biscoe"."""
    unit: Literal["seconds", "bytes"]
    planned: tuple[float, float]
    """Likely interval; both ends are the same where the plan told one figure."""
    came: float

    @property
    def off(self) -> float:
        """How far it came outside of the interval, over its nearer end; 0 inside, below zero where less came.

        >>> [Grade(what="a", unit="seconds", planned=(1.0, 2.0), came=came).off for came in (0.5, 1.5, 3.0)]
        [-0.5, 0.0, 0.5]
        """
        low, high = self.planned
        nearest = min(max(self.came, low), high)
        return (self.came - nearest) / nearest if nearest else 0.0


class Plan(Value, frozen=True, kw_only=True, tag_field="type", tag="plan/1"):
    """Participants, sizes, estimated bytes and time of a job."""

    job: Digest
    participants: tuple[SiteShare, ...]
    refused: dict[Name, str] = field(default_factory=dict)
    """Site → why it will not take part."""
    rounds: int
    cohort_size: int
    model_bytes: int
    down_bytes: int
    """All bytes from control to sites over the run."""
    up_bytes: int
    """All bytes from sites to control over the run."""
    seconds: tuple[float, float] | None = None
    """Likely interval for the whole run; None: nothing known yet."""
    phases: tuple[PhaseBytes, ...] = ()
    """The bytes, by kind of round, in the order of the run."""
    privacy: Guarantee | None = None
    """What the whole job will spend; None: it asks for no differential privacy."""
    secure: SecurePlan | None = None
    """None: control sees each site's update."""
    assumptions: tuple[str, ...] = ()
    """What the estimates rest on, as sentences."""
