"""A job's robust aggregation: its rule, its mixing, how many lying sites it tolerates, and among how many.

robust = robust_of(job.federation)      # None: updates are averaged
robust.require(20)                      # SpecError: too few updates, with the smallest change that would do
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import msgspec

from archipel.federated.robust.buckets import Buckets
from archipel.federated.robust.centred_clipping import CentredClipping
from archipel.federated.robust.geometric_median import GeometricMedian
from archipel.federated.robust.krum import Krum
from archipel.federated.robust.median import Median
from archipel.federated.robust.multi_krum import MultiKrum
from archipel.federated.robust.nearest_neighbours import NearestNeighbours
from archipel.federated.robust.port import Mixing, Rule, WeighingRule
from archipel.federated.robust.trimmed_mean import TrimmedMean
from archipel.spec import SpecError
from archipel.spec.job import FederationSpec, RobustSpec

RULES: dict[str, Callable[[RobustSpec], Rule]] = {
    "trimmed-mean": lambda _: TrimmedMean(),
    "centred-clipping": lambda spec: CentredClipping(spec.radius),
    "median": lambda _: Median(),
    "geometric-median": lambda _: GeometricMedian(),
    "krum": lambda _: Krum(),
    "multi-krum": lambda _: MultiKrum(),
}
MIXINGS: dict[str, Callable[[RobustSpec], Mixing | None]] = {
    "nearest-neighbours": lambda _: NearestNeighbours(),
    "buckets": lambda spec: Buckets(spec.bucket),
    "none": lambda _: None,
}
MOST_PAIRS = 2048
"""Updates whose inner products are looked at, at the most: a few matrices of 32 MiB."""


class Robust(msgspec.Struct, frozen=True, kw_only=True):
    """What is put in the place of the mean."""

    rule: Rule
    mixing: Mixing | None
    tolerate: int
    """f: updates of a round that may lie."""
    seed: int
    """The job's."""

    @property
    def needs_pairs(self) -> bool:
        """Are inner products of updates looked at?"""
        return isinstance(self.rule, WeighingRule) or self.mixing is not None

    def fits(self, updates: int, tolerate: int) -> bool:
        """Can so many updates have so many liars among them?"""
        rows = updates if self.mixing is None else self.mixing.rows(updates)
        return rows >= self.rule.least(tolerate)

    def require(self, updates: int) -> None:
        """Refuse a round of too few updates for the rule, or of too many.

        Raises:
            SpecError: names the rule and both numbers; the hint is the smallest change that would do.
        """
        named = self.rule.name + ("" if self.mixing is None else f" after mixing {self.mixing.name}")
        if self.needs_pairs and updates > MOST_PAIRS:
            raise SpecError(
                f"[federation.robust] {named} compares updates in pairs, {MOST_PAIRS} at the most, and a round has "
                f"{updates}",
                hint='lower the cohort, or set mixing = "none" and rule = "trimmed-mean"',
            )
        if self.fits(updates, self.tolerate):
            return
        least = next(number for number in count(updates + 1) if self.fits(number, self.tolerate))
        most = next((number for number in range(self.tolerate - 1, 0, -1) if self.fits(updates, number)), 0)
        more = f"let {least - updates} more sites take part in a round"
        raise SpecError(
            f"[federation.robust] {named} tolerates {self.tolerate} lying sites among {least} or more, and a round may "
            f"have {updates}",
            hint=f"set tolerate = {most}, or {more}" if most else more,
        )


def robust_of(federation: FederationSpec) -> Robust | None:
    """Return the robust aggregation of a job; None where updates are averaged.

    Raises:
        SpecError: a key that the rule or mixing has no use for.
    """
    spec = federation.robust
    if spec is None:
        return None
    if spec.radius is not None and spec.rule != "centred-clipping":
        raise SpecError(
            f"[federation.robust] {spec.rule} has no radius", hint='leave it out, or take rule = "centred-clipping"'
        )
    if spec.mixing != "buckets" and spec.bucket != RobustSpec(tolerate=1).bucket:
        raise SpecError(
            f"[federation.robust] mixing {spec.mixing} has no bucket", hint='leave it out, or take mixing = "buckets"'
        )
    return Robust(
        rule=RULES[spec.rule](spec),
        mixing=MIXINGS[spec.mixing](spec),
        tolerate=spec.tolerate,
        seed=federation.seed,
    )
