"""The sites' side of an algorithm: what surrounds local training, as plain numbers and vectors.

    local = LocalVariant.of(task.variant, control=c, own=c_i)       # both None before the first round
    trained = adapter.train(weights, LocalPlan(..., proximal=local.proximal, correction=local.correction))
    outcome = local.after(trained.delta, steps=trained.steps, learning_rate=rate)
    # outcome.parts: "control" beside "delta" in the update; outcome.own: the new c_i, to be kept

SCAFFOLD (arXiv:1910.06378, section 4): local steps are y ← y - eta (g(y) + c - c_i), equation (3), so our correction
is c - c_i; after K of them c_i^+ = c_i - c + (x - y_i) / (K eta), equation (4), option II, with x - y_i = -delta.

The site keeps c_i^+ only once control has counted the update it came with ("accepted" or "duplicate"): c is the mean
of the c_i that were counted, and work repeated after a crash must begin from the c_i of the round before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from archipel.spec import ShapeError, UnknownNameError

Vector = npt.NDArray[np.floating[Any]]
KNOWN = ("mu", "scaffold")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the algorithm adds to an update, and what the site must remember."""

    parts: dict[str, Vector]
    """Update parts beside "delta"; SCAFFOLD: {"control": c_i^+ - c_i}."""
    own: Vector | None
    """The site's next control variate; None: nothing to keep."""


class LocalVariant(msgspec.Struct, frozen=True, kw_only=True):
    """One round at one site; see the module."""

    proximal: float
    """FedProx's mu; 0 for the others."""
    control: Vector | None
    """The server's c; None: zeros, or not SCAFFOLD."""
    own: Vector | None
    """The site's c_i; None: zeros, or not SCAFFOLD."""
    scaffold: bool

    @classmethod
    def of(cls, variant: Mapping[str, float], *, control: Vector | None = None, own: Vector | None = None) -> Self:
        """Read a round task's variant; `control` is its input "control", `own` what this site kept.

        Raises:
            UnknownNameError: a number this version does not know how to apply.
        """
        for name in variant:
            if name not in KNOWN:
                raise UnknownNameError.of("number in the round task's variant:", name, KNOWN)
        scaffold = bool(variant.get("scaffold", 0.0))
        return cls(
            proximal=variant.get("mu", 0.0),
            control=control if scaffold else None,
            own=own if scaffold else None,
            scaffold=scaffold,
        )

    @property
    def correction(self) -> Vector | None:
        """Return c - c_i, which every local step adds to its gradient; None: nothing is added."""
        if self.control is None or self.own is None:
            return self.control if self.own is None else -self.own
        if self.control.shape != self.own.shape:
            raise ShapeError(
                f"control variates of {self.control.size} and {self.own.size} values",
                hint="the site kept one from another model: begin a new run",
            )
        return self.control - self.own

    def after(self, delta: Vector, *, steps: int, learning_rate: float) -> Outcome:
        """Return what follows from local training that moved the weights by `delta` in `steps` steps."""
        if not self.scaffold:
            return Outcome(parts={}, own=None)
        own = np.zeros_like(delta) if self.own is None else self.own
        if steps == 0 or learning_rate == 0:
            # Nothing was learnt: c_i stays.
            return Outcome(parts={"control": np.zeros_like(delta)}, own=own)
        correction = self.correction
        # Equation (4), option II.
        following = -delta / delta.dtype.type(steps * learning_rate)
        if correction is not None:
            following = following - correction
        return Outcome(parts={"control": following - own}, own=following)
