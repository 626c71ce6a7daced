"""A site's share of the noise in a secure sum: its update clipped, made whole steps, and given whole steps of noise.

    noise = SharedNoise(clip_norm=1.0, deviation=0.4, stream=NoiseStream(secret, "update"))
    noise.on(update, step=2.0**-26, share=1.0)      # float64 multiples of the step

In steps, an update has norm clip_norm / step at the most: before it is rounded it is clipped by as much more as
rounding to the nearest step can add, half a step on each of d elements, sqrt(d) / 2 together. So what one site moves
the sum by is known exactly, and the noise is held against that.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from archipel.security.privacy import NoiseStream, norm_of, share_deviation, whole_noise
from archipel.spec import SpecError
from archipel.spec.privacy import DistributedPrivacy

Array = npt.NDArray[Any]
TAIL_DEVIATIONS = 12.0
"""Noise beyond this is cut off; it comes once in 10^32 elements."""


class SharedNoise(msgspec.Struct, frozen=True, kw_only=True):
    """What one site does to one update."""

    clip_norm: float
    deviation: float
    """Of this site's share."""
    stream: NoiseStream

    @classmethod
    def of(cls, privacy: DistributedPrivacy, quorum: int, stream: NoiseStream) -> SharedNoise:
        """Return the share in a sum that can be opened once `quorum` sites are in it.

        Raises:
            SpecError: all of those sites may collude.
        """
        sharers = quorum - privacy.colluding
        if sharers < 1:
            raise SpecError(
                f"[privacy.distributed] colluding = {privacy.colluding}, and {quorum} sites are enough for a sum",
                hint=f"set colluding below {quorum}, or let more sites take part",
            )
        total = privacy.noise_multiplier * privacy.clip_norm
        return cls(clip_norm=privacy.clip_norm, deviation=share_deviation(total, sharers=sharers), stream=stream)

    def on(self, update: Array, *, step: float, share: float) -> Array:
        """Return `share` times the clipped update, and its noise: multiples of `step`, float64, of `update`'s shape.

        Raises:
            SpecError: the steps are too coarse for so many elements, or for the noise.
        """
        bound, slack = self.clip_norm * share / step, math.sqrt(update.size) / 2
        if slack >= bound:
            raise SpecError(
                f"a clip norm of {bound:.3g} steps is lost in the rounding of {update.size} elements",
                hint="raise clip_norm in [privacy.distributed], or let fewer sites take part in one sum",
            )
        whole = np.multiply(update, share / step, dtype=np.float64)
        if (norm := norm_of(whole)) > bound - slack:
            whole *= (bound - slack) / norm
        np.rint(whole, out=whole)
        for start, drawn in whole_noise(self.stream, update.size, self.deviation * share / step):
            whole[start : start + drawn.size] += drawn
        return np.multiply(whole, step, out=whole)


def widest(privacy: DistributedPrivacy) -> float:
    """Return what no element of a noisy update goes beyond, but for the tail that is cut off, whatever the quorum."""
    return privacy.clip_norm * (1.0 + TAIL_DEVIATIONS * privacy.noise_multiplier)
