"""Which executor computes a job's cohorts fastest: tried on a few clients of the job itself, and said.

    choice = choose_executor("auto", adapter, weights, plans)
    choice.executor.name, choice.why      # "stacked", "0.8 ms a step against 1.9 ms by loop; same weights within 3e-08"

An executor other than `loop` must come to the same weights; one that does not, or cannot compute the model, is passed
over, and the reason is said. So it is refused where it was asked for by name. Tried are whole clients, after one round
that warms the code up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from archipel.spec import ArchipelError, TaskError
from archipel.tasks.executors import LOOP, offered, open_executor
from archipel.tasks.port import Adapter, Executor, LocalPlan, Trained, Vector, Weights

AUTO = "auto"
TRIED = 16
"""Clients of a trial that measures, at most."""
PROVED = 2
"""Clients of a trial of an executor that was asked for by name: it must come to the loop's weights too."""
TOLERANCE = 1e-4
"""Largest difference of a trained weight from the one by `loop`, where weights are float32 (1e-9 in float64)."""

Clock = Callable[[], float]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken, and why."""

    executor: Executor
    why: str
    seconds_a_step: dict[str, float]
    """Executor → CPU seconds of a step in the trial; empty where none was made."""


def choose_executor(
    wanted: str, adapter: Adapter, weights: Weights, plans: Sequence[LocalPlan], clock: Clock = time.process_time
) -> Choice:
    """Open the executor that is wanted, or for "auto" the fastest on the first of `plans`.

    Raises:
        TaskError: the one that is wanted cannot compute this task, or not to the same weights.
        MissingExtraError: what the one that is wanted needs is not installed.
    """
    names = offered(adapter) if wanted == AUTO else (wanted,)
    if names == (LOOP,):
        why = "the framework has no other" if wanted == AUTO else "it was asked for"
        return Choice(executor=open_executor(LOOP, adapter), why=why, seconds_a_step={})
    tried = [plan for plan in plans if plan.rows is None or len(plan.rows)]
    if wanted != AUTO:
        trial = _Trial(adapter, weights, tried[:PROVED], clock)
        if passed_over := trial.run(LOOP) or trial.run(wanted):
            raise TaskError(passed_over, hint=f'set executor = "{LOOP}" or "auto" in [simulation]')
        return Choice(executor=trial.executors[wanted], why="it was asked for", seconds_a_step={})
    trial = _Trial(adapter, weights, tried[:TRIED], clock)
    said = [reason for name in names if (reason := trial.run(name))]
    best = min(trial.seconds, key=trial.seconds.__getitem__)
    figures = [f"{name} {1e3 * value:.2f} ms" for name, value in sorted(trial.seconds.items(), key=lambda it: it[1])]
    why = "CPU time of a step: " + ", ".join(figures)
    return Choice(executor=trial.executors[best], why="; ".join([why, *said]), seconds_a_step=trial.seconds)


class _Trial:
    """A few clients, trained by one executor after another."""

    def __init__(self, adapter: Adapter, weights: Weights, plans: Sequence[LocalPlan], clock: Clock) -> None:
        self._adapter = adapter
        self._weights = weights
        self._plans = plans
        self._clock = clock
        self._expected: list[Vector] = []
        self.executors: dict[str, Executor] = {}
        self.seconds: dict[str, float] = {}

    def run(self, name: str) -> str:
        """Time one executor; return why it is passed over, "" where it is not.

        Raises:
            ArchipelError: `loop` itself fails, which is the task's fault.
        """
        try:
            executor = open_executor(name, self._adapter)
            list(executor.train(self._weights, self._plans))
            began = self._clock()
            trained = list(executor.train(self._weights, self._plans))
        except ArchipelError as error:
            if name == LOOP:
                raise
            return f"{name}: {error.message}"
        spent = self._clock() - began
        if name == LOOP:
            self._expected = [one.delta for one in trained]
        elif (gap := self._gap(trained)) > self._allowed():
            return f"{name}: its weights differ by {gap:.1g}"
        self.executors[name] = executor
        self.seconds[name] = spent / max(1, sum(one.steps for one in trained))
        return ""

    def _gap(self, trained: Sequence[Trained]) -> float:
        if len(trained) != len(self._expected):
            raise TaskError("an executor lost a client", hint="report this: it is a fault")
        pairs = zip(trained, self._expected, strict=True)
        return max((float(np.abs(one.delta - expected).max(initial=0.0)) for one, expected in pairs), default=0.0)

    def _allowed(self) -> float:
        return TOLERANCE if self._weights.vector.dtype == np.float32 else 1e-9
