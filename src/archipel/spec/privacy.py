"""Differential privacy in the nouns of the house: what a job asks for, and what is then promised.

An epsilon means nothing alone. A `Guarantee` says whose data it is about (the unit), which two data sets are told
apart (the relation), how units were drawn (the sampling), and who computed it (the accountant).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from archipel.spec.canonical import Value

Positive = Annotated[float, Meta(gt=0)]
Delta = Annotated[float, Meta(gt=0, lt=1)]
Unit = Literal["site", "client", "example"]
"""Whose presence is hidden: a site with all its rows, a virtual client with all of its, one training row."""
Accountant = Literal["pld", "rdp", "moments"]
"""pld: privacy loss distributions, the tightest; rdp: Rényi divergences; moments: those of whole orders, as in 2016."""


class AdaptiveClip(Value, frozen=True, kw_only=True):
    """[privacy.central.adaptive]: the clip norm follows a quantile of the updates' norms (arXiv:1905.03871)."""

    quantile: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Share of updates that should be within the clip norm."""
    learning_rate: Positive = 0.2
    """How fast the clip norm moves, on a logarithmic scale."""
    count_noise: Positive | None = None
    """Standard deviation of the noise on how many were within it; None: a twentieth of the cohort."""


class CentralPrivacy(Value, frozen=True, kw_only=True):
    """[privacy.central]: updates are clipped at their sites, and the coordinator adds noise to their average."""

    clip_norm: Positive
    """Largest L2 norm of an update; where it adapts, that of the first round."""
    noise_multiplier: Positive
    """Standard deviation of the noise on the sum of updates, as a multiple of the clip norm."""
    delta: Delta = 1e-5
    """The probability with which epsilon may not hold; below one over the number of units."""
    adaptive: AdaptiveClip | None = None
    """None: the clip norm stays."""
    noise: Literal["independent", "correlated"] = "independent"
    """"correlated": later rounds take back a part of earlier ones' noise, for clients that take turns (DP-FTRL)."""
    seed: Annotated[int, Meta(ge=0, lt=2**53)] | None = None
    """For tests alone: noise that follows from a seed can be taken off again, so nothing is promised. None: fresh."""


class ExamplePrivacy(Value, frozen=True, kw_only=True):
    """[privacy.examples]: DP-SGD at every site; each step clips the gradient of each row and adds noise there."""

    clip_norm: Positive
    """Largest L2 norm of one row's gradient."""
    noise_multiplier: Positive
    """Standard deviation of the noise on the sum of a step's gradients, as a multiple of the clip norm."""
    sampling_rate: Annotated[float, Meta(gt=0, le=1)]
    """Probability with which a row is in a step: rows are drawn by Poisson sampling, and a step has no fixed size."""
    delta: Delta = 1e-5
    """The probability with which epsilon may not hold; below one over the number of rows."""


class LocalPrivacy(Value, frozen=True, kw_only=True):
    """[privacy.local]: each site clips its update and adds noise to it before it leaves."""

    clip_norm: Positive
    """Largest L2 norm of an update, before the noise."""
    noise_multiplier: Positive
    """Standard deviation of the noise on each site's update, as a multiple of the clip norm."""
    delta: Delta = 1e-5
    """The probability with which epsilon may not hold; below one over the number of sites."""


class DistributedPrivacy(Value, frozen=True, kw_only=True):
    """[privacy.distributed]: each site adds a share of the noise to its update, under secure aggregation."""

    clip_norm: Positive
    """Largest L2 norm of an update, before the noise."""
    noise_multiplier: Positive
    """Standard deviation of the noise on the sum of updates, as a multiple of the clip norm: that of the fewest sites
    whose sum can be opened."""
    delta: Delta = 1e-5
    """The probability with which epsilon may not hold; below one over the number of sites."""
    colluding: Annotated[int, Meta(ge=0)] = 0
    """So many sites may tell others their share of the noise; the rest add that much more."""


class Guarantee(Value, frozen=True, kw_only=True, tag_field="type", tag="guarantee/1"):
    """What the mechanisms of a run promise. `str(guarantee)` says all of it."""

    epsilon: float | None
    """None: no bound holds; `reason` says why."""
    delta: float
    unit: Unit
    relation: Literal["zero-out"] = "zero-out"
    """Two data sets are neighbours where one unit's contribution is replaced by nothing; counts of units are known."""
    sampling: str
    """How units were drawn for a round or step, in words."""
    trusted: Literal["coordinator", "nobody"]
    """Who sees what has no noise yet."""
    accountant: Accountant
    releases: int
    """Noisy sums that were, or will be, published."""
    reason: str = ""

    def __str__(self) -> str:
        bound = "no epsilon" if self.epsilon is None else f"epsilon {self.epsilon:.3g}"
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"{bound} at delta {self.delta:.3g}{why}; unit: {self.unit}, neighbours: {self.relation}, "
            f"sampling: {self.sampling}, {self.releases} noisy sums, accountant {self.accountant}, "
            f"trusted with sums: {self.trusted}"
        )
