"""A contribution: one site's update, ready to be read; and what can be wrong with it, by the site's name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from archipel.federated.blocks import BlockReader
from archipel.spec import NonFiniteError, ShapeError, TaskError


class UnusableUpdateError(TaskError):
    """An update that cannot be folded."""

    kind = "TaskError"
    """Name in the error tree of spec, for a Refusal."""

    def __init__(self, site: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.site = site


class NonFiniteUpdateError(UnusableUpdateError, NonFiniteError):
    """An update holds NaN or infinity."""

    kind = "NonFiniteError"

    @classmethod
    def of(cls, site: str, part: str) -> NonFiniteUpdateError:
        """Build the error for a part of a site's update."""
        return cls(
            site,
            f"part {part!r} of the update of {site} holds NaN or infinity",
            hint="lower the learning rate or set [federation.local] clip_norm",
        )


class ShapeUpdateError(UnusableUpdateError, ShapeError):
    """An update is laid out otherwise than the model."""

    kind = "ShapeError"


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """One site's update, ready to be read."""

    site: str
    weight: float
    parts: BlockReader


def normalised(weights: Sequence[float]) -> list[float]:
    """Return the weights divided by their sum, which does not depend on their order."""
    total = math.fsum(weights)
    if not total > 0 or not math.isfinite(total):
        raise TaskError(
            "the updates of this round have no weight: no site trained on a row",
            hint='check that the sites\' training splits hold rows, or set [federation] weighting = "uniform"',
        )
    return [weight / total for weight in weights]
