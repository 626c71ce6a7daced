"""Successive halving that follows from the scores alone.

A rung is at `least` rounds, `least` times `factor`, and so on. A trial's value at a rung is its first score from there
on. At each rung it crosses, a trial goes on if it is among the best 1/factor of those that came so far, or the best.

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv:1810.05934, algorithm 2. Optuna's own
pruner notes the rungs of a trial before it judges: a process killed between the two forgets to end the trial. Here
nothing is noted, and who asks again is told the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class Halving(BasePruner):
    """Ends trials at rungs; scores are not NaN."""

    def __init__(self, *, least: int, factor: int) -> None:
        self._least = least
        self._factor = factor

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Say whether the trial is to be ended after its last score."""
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        others = study.get_trials(deepcopy=False)
        for rung in self._crossed(trial):
            values = sorted(sign * value for one in others if (value := _value_at(one, rung)) is not None)
            own = _value_at(trial, rung)
            if own is not None and sign * own > values[max(0, len(values) // self._factor - 1)]:
                return True
        return False

    def _crossed(self, trial: FrozenTrial) -> Iterator[int]:
        """Rungs that the last score is the first one from."""
        steps = sorted(trial.intermediate_values)
        if not steps:
            return
        before, last = steps[-2] if len(steps) > 1 else 0, steps[-1]
        rung = self._least
        while rung <= last:
            if rung > before:
                yield rung
            rung *= self._factor


def _value_at(trial: FrozenTrial, rung: int) -> float | None:
    steps = [step for step in trial.intermediate_values if step >= rung]
    value = trial.intermediate_values[min(steps)] if steps else math.nan
    return None if math.isnan(value) else value
