"""Which executor is taken: the fastest that comes to the same weights, by a clock that the test gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from archipel.simulation.choosing import choose_executor
from archipel.spec import LocalTraining, TaskError, manifest_of
from archipel.tasks.executors import open_executor
from archipel.tasks.port import LocalPlan, Trained, Weights

WEIGHTS = Weights(manifest=manifest_of([("w", (3,), np.dtype(np.float32))]), vector=np.zeros(3, np.float32))
PLANS = [
    LocalPlan(local=LocalTraining(), learning_rate=0.1, epochs=1, seed=(n,), client=f"c{n}", rows=np.arange(5))
    for n in range(3)
]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _trained(gap: float = 0.0) -> Trained:
    delta = np.full(3, 1 + gap, np.float32)
    return Trained(delta=delta, examples=5, steps=2, loss_sum=1.0, loss_examples=5)


class Plain:
    """An adapter with `loop` alone; a client costs 2 seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def train(self, weights: Weights, plan: LocalPlan, progress: Any) -> Trained:
        self.clock.now += 2
        return _trained()


class Both(Plain):
    """... and with `stacked`, at a cost and with an error of its own."""

    def __init__(self, clock: Clock, cost: float, gap: float = 0.0, fault: str = "") -> None:
        super().__init__(clock)
        self.cost, self.gap, self.fault = cost, gap, fault

    def stacked(self) -> Any:
        return SideBySide(self)


class SideBySide:
    """The executor that Both has."""

    name = "stacked"

    def __init__(self, adapter: Both) -> None:
        self.adapter = adapter

    def train(self, weights: Weights, plans: Sequence[LocalPlan]) -> Iterator[Trained]:
        if self.adapter.fault:
            raise TaskError(self.adapter.fault, hint="…")
        for _ in plans:
            self.adapter.clock.now += self.adapter.cost
            yield _trained(self.adapter.gap)


def _both(clock: Clock, cost: float, gap: float = 0.0, fault: str = "") -> Any:
    return Both(clock, cost, gap, fault)


@pytest.mark.parametrize(
    ("cost", "gap", "fault", "taken", "said"),
    [
        (1.0, 0.0, "", "stacked", "stacked 500.00 ms, loop 1000.00 ms"),
        (3.0, 0.0, "", "loop", "loop 1000.00 ms, stacked 1500.00 ms"),
        (1.0, 0.01, "", "loop", "stacked: its weights differ by 0.01"),
        (1.0, 1e-5, "", "stacked", "stacked 500.00 ms"),
        (1.0, 0.0, "this model cannot be stacked: lstm", "loop", "this model cannot be stacked: lstm"),
    ],
)
def test_the_fastest_that_agrees_with_loop_is_taken(cost: float, gap: float, fault: str, taken: str, said: str) -> None:
    clock = Clock()
    choice = choose_executor("auto", _both(clock, cost, gap, fault), WEIGHTS, PLANS, clock)
    assert choice.executor.name == taken
    assert said in choice.why


def test_an_executor_that_is_asked_for_is_proved_and_not_measured() -> None:
    choice = choose_executor("stacked", _both(Clock(), 9.0), WEIGHTS, PLANS)
    assert (choice.executor.name, choice.seconds_a_step) == ("stacked", {})
    with pytest.raises(TaskError, match=r"^stacked: its weights differ by 0.01$"):
        choose_executor("stacked", _both(Clock(), 9.0, gap=0.01), WEIGHTS, PLANS)
    with pytest.raises(TaskError, match="cannot be stacked: lstm"):
        choose_executor("stacked", _both(Clock(), 9.0, fault="this model cannot be stacked: lstm"), WEIGHTS, PLANS)


def test_a_framework_with_loop_alone_is_not_measured() -> None:
    clock = Clock()
    adapter: Any = Plain(clock)
    assert choose_executor("auto", adapter, WEIGHTS, PLANS, clock).executor.name == "loop"
    assert clock.now == 0.0
    with pytest.raises(TaskError, match="has no executor 'stacked'"):
        open_executor("stacked", adapter)


def test_an_error_of_loop_itself_is_the_tasks() -> None:
    class Broken(Both):
        def train(self, weights: Weights, plan: LocalPlan, progress: Any) -> Trained:
            raise TaskError("no such column", hint="…")

    adapter: Any = Broken(Clock(), 1.0)
    with pytest.raises(TaskError, match=r"^c0: no such column$"):
        choose_executor("auto", adapter, WEIGHTS, PLANS)
