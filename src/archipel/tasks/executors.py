"""Executors by name: how the clients of a cohort are computed in one process.

    loop      one client after another, by the adapter as a live site uses it: equal to live runs, bit for bit
    stacked   clients side by side (tasks/torch/stacked.py): equal within rounding

A framework offers an executor by a method of its name on its adapter; `loop` needs nothing but `train`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archipel.spec import ArchipelError, TaskError
from archipel.tasks.port import Adapter, Executor, LocalPlan, Trained, Weights

LOOP = "loop"
NAMES = (LOOP, "stacked", "compiled")


class Loop:
    """Executor "loop"."""

    name = LOOP

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def train(self, weights: Weights, plans: Sequence[LocalPlan]) -> Iterator[Trained]:
        """Yield what each plan comes to."""
        for plan in plans:
            try:
                yield self._adapter.train(weights, plan, lambda _share: None)
            except ArchipelError as error:
                raise type(error)(f"{plan.client}: {error.message}", hint=error.hint) from error


def offered(adapter: Adapter) -> tuple[str, ...]:
    """Return the names of the executors that the adapter's framework has."""
    return tuple(name for name in NAMES if name == LOOP or hasattr(adapter, name))


def open_executor(name: str, adapter: Adapter) -> Executor:
    """Return an executor over the adapter's examples.

    Raises:
        TaskError: the framework has none of this name, or it cannot compute this task.
    """
    if name == LOOP:
        return Loop(adapter)
    if name not in offered(adapter):
        hint = f'set executor = "{LOOP}" or "auto" in [simulation]'
        raise TaskError(f"{type(adapter).__name__} has no executor {name!r}", hint=hint)
    executor: Executor = getattr(adapter, name)()
    return executor
