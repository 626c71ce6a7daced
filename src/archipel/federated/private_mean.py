"""The mean of a training round with [privacy.central]: clipped updates over a fixed number, with noise.

    mean  = (sum_i delta_i + N(0, (z C)^2)) / m,     ||delta_i|| <= C,     m the cohort the job expects

McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models", arXiv:1710.06963, section 2, with the
fixed-denominator estimator: divided by how many came, one site more would move the mean by more than C / m. Sites count
equally for the same reason. Sums are in float64, so that their rounding adds nothing to the sensitivity. The clip norm
may follow a quantile of the norms; see `security.privacy.clipping`. Noise may be correlated over rounds, for clients
that take turns; see `security.privacy.correlated`. Streams are asked for again by their names, so none is kept.

Sites clip what they send, by the bound in their task; here nothing is clipped again: what one site does to the sum is
bounded by that site, for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from archipel.federated.port import Block, Fold
from archipel.federated.stages import share_of
from archipel.security.privacy import NoiseStream, next_clip, seeded_secret, taps, update_noise
from archipel.security.privacy.clipping import count_noise
from archipel.security.privacy.noise import on_grid
from archipel.spec import JobSpec, Update
from archipel.spec.job import FederationSpec
from archipel.spec.privacy import CentralPrivacy

WITHIN_CLIP = "within_clip"
"""Metric of a training update: 1.0 where its delta was within the clip norm, 0.0 where it was scaled down to it."""
SUM = np.dtype(np.float64)
"""In which private means are summed."""


class PrivateMean:
    """One training round."""

    def __init__(
        self, central: CentralPrivacy, secret: bytes, *, step: int, cohort: float, clip_norm: float, bands: int = 1
    ) -> None:
        """`cohort` is m, the number of updates the job expects; `secret` is the run's.

        `bands`: so many rounds' fresh noise, this one's first, is in the round's; 1: its own alone.

        Raises:
            SpecError: the noise on the count is too little; see `update_noise`.
        """
        self._central = central
        self._cohort = cohort
        self._clip_norm = clip_norm
        self._deviation = update_noise(central, cohort) * clip_norm / cohort
        self._taps = taps(min(bands, step))
        self._noises = [NoiseStream(secret, "update", step - back) for back in range(len(self._taps))]
        self._count = NoiseStream(secret, "count", step)

    @property
    def share(self) -> float:
        """What each update counts."""
        return 1.0 / self._cohort

    def noisy(self, mean: Block, start: int = 0) -> Block:
        """Return the columns from `start` on of the mean, float64, with noise."""
        noise = np.zeros(mean.size)
        for tap, stream in zip(self._taps, self._noises, strict=True):
            noise += tap * stream.standard(start, mean.size)
        return on_grid(mean.astype(SUM, copy=False), noise, self._deviation)

    def next_clip(self, within: Sequence[bool]) -> float | None:
        """Return the bound of the next round, given whose updates were within this one's; None: it stays."""
        adaptive = self._central.adaptive
        if adaptive is None:
            return None
        surplus = np.array([sum(1.0 if one else -1.0 for one in within) / 2])
        noisy = float(self._count.add(surplus, deviation=count_noise(adaptive, self._cohort))[0])
        return next_clip(adaptive, self._clip_norm, noisy / self._cohort + 0.5)


class Noising(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver of a run with [privacy.central] gives to its folds."""

    central: CentralPrivacy
    secret: bytes
    """The run's own: the same for a fold that is repeated, and for no other run."""

    @classmethod
    def of(cls, job: JobSpec, secret: Callable[[], bytes]) -> Noising | None:
        """Return it for a job, None where it has no [privacy.central]; `secret` is asked where the job has no seed."""
        central = job.privacy.central
        if central is None:
            return None
        return cls(central=central, secret=secret() if central.seed is None else seeded_secret(central.seed))

    def mean_of(self, order: Fold, federation: FederationSpec) -> PrivateMean:
        """Return the mean of a training round."""
        cohort = share_of(federation.cohort, order.facts.population)
        clip_norm = self.central.clip_norm if order.clip_norm is None else order.clip_norm
        return PrivateMean(self.central, self.secret, step=order.facts.step, cohort=cohort, clip_norm=clip_norm)


def was_within(update: Update) -> bool:
    """Say whether an update's delta was within the clip norm."""
    return bool(update.metrics.get(WITHIN_CLIP))
