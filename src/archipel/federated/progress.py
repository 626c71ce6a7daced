"""Progress of a run, for people: where it stands, who is missing, how the training loss goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from archipel.federated.port import Outlier
from archipel.spec import Kind, Leg

HUGE = 1e290
"""Sums of losses from here on count as overflowed."""


class RoundLoss(msgspec.Struct, frozen=True, kw_only=True):
    """Training loss of one closed training round."""

    step: int
    loss: float | None
    """Mean over the examples of the sites' last local epoch, as they were seen; None: none reported, or overflowed."""
    sites: int
    """Sites whose updates were folded."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands."""

    phase: Kind | str
    """Kind of the round under way, or "finished"."""
    round: int
    """Number of the round under way, from 0."""
    rounds_total: int
    """Rounds of the run over all phases, as far as is known (statistics show up after the check)."""
    step: int
    """Training round under way, or the last closed one; 0 before the first."""
    steps_total: int
    answered: int
    """Sites of the cohort whose update is here."""
    cohort: int
    waiting: tuple[str, ...]
    """Up to 20 sites of the cohort that have neither answered nor refused."""
    lost: tuple[str, ...]
    """Sites of the run whose lease ended."""
    losses: tuple[RoundLoss, ...]
    outliers: tuple[Outlier, ...] = ()
    """Updates of the last closed training round that were unlike the others."""
    excluded: dict[str, str]
    """Site → why it left the run."""
    paused: str
    """Why the run stands still; empty: it does not."""
    leg: Leg | None = None
    """Of the round under way, where that is part of a secure sum."""


def loss_of(step: int, metrics: Sequence[Mapping[str, float]], sites: int) -> RoundLoss:
    """Return the training loss of a round over `sites`, from the "loss_sum" and "loss_examples" of their metrics."""
    pairs = [(one.get("loss_sum", 0.0), one.get("loss_examples", 0.0)) for one in metrics]
    # A loss that overflowed is shown as none at all: fsum would raise on it.
    finite = [pair for pair in pairs if abs(pair[0]) < HUGE and abs(pair[1]) < HUGE]
    total, count = (math.fsum(column) for column in zip(*finite, strict=True)) if finite else (0.0, 0.0)
    known = len(finite) == len(pairs) and count > 0
    return RoundLoss(step=step, loss=total / count if known else None, sites=sites)
