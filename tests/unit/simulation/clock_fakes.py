"""A tiny fleet whose arithmetic a reader can do: client k's training moves the weights to its own target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from archipel.simulation.clock.devices import Device
from archipel.simulation.clock.sessions import Always, Sessions
from archipel.simulation.virtual import RoundRecord, VirtualRun
from archipel.spec import JobSpec, manifest_of
from archipel.spec.job import job_from
from archipel.tasks.executors import open_executor
from archipel.tasks.port import LocalPlan, Split, Trained, Weights

ROWS = 10


class Clients:
    """Clients by name, ten rows each."""

    def __init__(self, names: str) -> None:
        self.names = names
        self.count = len(names)

    def name(self, client: int) -> str:
        return self.names[client]

    def rows(self, client: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.arange(ROWS) + client


class Devices:
    """Devices whose clients take so many seconds for their ten rows, where nothing else takes time."""

    def __init__(self, seconds: list[float], sessions: list[Sessions] | None = None) -> None:
        self.seconds = seconds
        self.sessions = sessions
        self.always = sessions is None

    def device(self, client: int) -> Device:
        sessions = Always() if self.sessions is None else self.sessions[client]
        per_row = self.seconds[client] / ROWS
        return Device(seconds_per_example=per_row, down_mbps=None, up_mbps=None, sessions=sessions)


class Targets:
    """An adapter of one weight: a client's training ends at its target, whatever it begins with."""

    def __init__(self, targets: dict[str, float]) -> None:
        self.targets = targets
        self.plans: list[LocalPlan] = []
        self.split = Split(train={"x": np.zeros(99)}, test={"x": np.zeros(1)})

    def initial(self, seed: int) -> Weights:
        return Weights(manifest=manifest_of([("w", (1,), np.dtype(np.float64))]), vector=np.zeros(1))

    def train(self, weights: Weights, plan: LocalPlan, progress: Callable[[float], None]) -> Trained:
        self.plans.append(plan)
        rows = 0 if plan.rows is None else len(plan.rows)
        delta = self.targets[plan.client] - weights.vector
        return Trained(delta=delta, examples=rows, steps=1, loss_sum=float(rows), loss_examples=rows)

    def evaluate(self, weights: Weights, part: str = "test") -> dict[str, Any]:
        raise NotImplementedError

    def export(self, weights: Weights, target: Path) -> None:
        raise NotImplementedError


def job(time: dict[str, Any] | None, *, cohort: int = 2, rounds: int = 3, **federation: Any) -> JobSpec:
    document = {
        "name": "targets",
        "task": {"code": "task.py:Targets"},
        "data": {"dataset": "targets"},
        "federation": {"rounds": rounds, **federation},
        "simulation": {"cohort": cohort, **({} if time is None else {"time": time})},
    }
    return job_from(document)


def simulated(known: JobSpec, adapter: Any, devices: Any, names: str, place: Path) -> tuple[float, list[RoundRecord]]:
    """Run the job; return the weight it came to, and the rounds."""
    run = VirtualRun(known, adapter, Clients(names), place / "controls", devices=devices)
    records = list(run.rounds(open_executor("loop", adapter)))
    return float(run.weights.vector[0]), records
