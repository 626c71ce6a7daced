"""What a private computation did, or will do, as frozen values; several accountants read the same ones.

    Repeated(event=PoissonSampled(rate=0.01, event=Gaussian(noise_multiplier=4)), times=10_000)

Events are plain data: a ledger stores them, and a tighter accountant of a later year can be asked again. Noise
multipliers are standard deviations over the sensitivity of the sum: one unit more or less moves it by at most 1.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from archipel.spec.canonical import Value

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class Gaussian(Value, frozen=True, kw_only=True, tag_field="type", tag="gaussian"):
    """A sum is published with Gaussian noise."""

    noise_multiplier: Positive


class DiscreteGaussian(Value, frozen=True, kw_only=True, tag_field="type", tag="discrete-gaussian"):
    """A sum is published with whole-numbered Gaussian noise that several parties added in shares (see `discrete`)."""

    noise_multiplier: Positive


class PoissonSampled(Value, frozen=True, kw_only=True, tag_field="type", tag="poisson-sampled"):
    """Each unit takes part with probability `rate`, independently of the others, and nobody learns who does."""

    rate: Annotated[float, Meta(gt=0, le=1)]
    event: Gaussian


class TreeAggregation(Value, frozen=True, kw_only=True, tag_field="type", tag="tree-aggregation"):
    """Prefix sums over all steps are published by a binary tree with noise at each node (DP-FTRL, arXiv:2103.00039)."""

    noise_multiplier: Positive
    """Standard deviation at a node over one unit's contribution to one step."""
    steps: Count
    participations: Count
    """So often a unit takes part, at the most."""
    separation: Count
    """So many steps lie between two of its participations, at the least."""


class Correlated(Value, frozen=True, kw_only=True, tag_field="type", tag="correlated"):
    """Sums over all steps are published with noise of which later steps take back a part (see `correlated`)."""

    noise_multiplier: Positive
    """Standard deviation of a step's fresh noise over one unit's contribution to one step."""
    bands: Count
    """So many steps' fresh noise is in a step's."""
    steps: Count
    participations: Count
    separation: Count
    """As of TreeAggregation."""


class Repeated(Value, frozen=True, kw_only=True, tag_field="type", tag="repeated"):
    """The same thing, so many times, on the same data."""

    event: Gaussian | DiscreteGaussian | PoissonSampled | TreeAggregation | Correlated
    times: Count


class Composed(Value, frozen=True, kw_only=True, tag_field="type", tag="composed"):
    """Several things on the same data."""

    events: tuple[Gaussian | DiscreteGaussian | PoissonSampled | TreeAggregation | Correlated | Repeated, ...] = ()


Event = Gaussian | DiscreteGaussian | PoissonSampled | TreeAggregation | Correlated | Repeated | Composed


def gaussian_of(rho: float) -> Gaussian:
    """Return the Gaussian of zero-concentrated privacy loss `rho` = 1 / (2 sigma^2) (arXiv:1605.02065, prop. 1.6).

    So a matrix mechanism is accounted, whose noise is Gaussian and whose rho its factorisation gives.
    """
    return Gaussian(noise_multiplier=(2 * rho) ** -0.5)
