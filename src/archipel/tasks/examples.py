"""A site's examples as the adapters use them: read once, checked, and put in the order of a plan.

Every adapter visits examples in the same order: one generator seeded by the plan, one permutation an epoch, batches
cut from it in turn, the last one short where the rows do not divide; nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from archipel.data.site_data import SiteData
from archipel.spec import ShapeError, TaskError
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import LocalPlan, Progress, Rows, Samples, Split, Sums, Task, row_count
from archipel.tasks.randomness import READING, seeded_draws

PROGRESS_STEP = 0.01
"""Progress is told each time so much more of the work is done."""


def read_split(task: Task, data: SiteData, statistics: Sums) -> Split:
    """Let the task read its site's data, and check that what it returns can be used."""
    with user_code("read", task_folder(task)), seeded_draws(READING):
        split: Any = task.read(data, dict(statistics))
    if not isinstance(split, Split):
        raise TaskError(f"read() returned {type(split).__name__}", hint="return archipel.tasks.port.Split")
    for name in ("train", "test", "validation"):
        part = getattr(split, name)
        if part is not None:
            _check_part(name, part)
    return split


def part_of(split: Split, name: str) -> Samples:
    """Return the part "test" or "validation" of a split."""
    if name == "test":
        return split.test
    if name != "validation":
        raise TaskError(f"there is no part {name!r} to evaluate on", hint="use 'test' or 'validation'")
    if split.validation is None:
        raise TaskError("the task has no validation rows", hint="return validation=… from read(), or set every = 0")
    return split.validation


def rows_planned(samples: Samples, plan: LocalPlan) -> int:
    """Return how many rows the plan trains on."""
    return row_count(samples) if plan.rows is None else len(plan.rows)


def epoch_batches(rows: int, plan: LocalPlan) -> Iterator[tuple[int, Rows]]:
    """Yield (epoch, row numbers) for each step of the plan, which trains on so many rows."""
    rng = np.random.default_rng(plan.seed)
    size = plan.local.batch_size
    for epoch in range(plan.epochs):
        order = rng.permutation(rows)
        if plan.rows is not None:
            order = plan.rows[order]
        for start in range(0, rows, size):
            yield epoch, order[start : start + size]


def step_count(rows: int, plan: LocalPlan) -> int:
    """Return how many steps `epoch_batches` yields."""
    return plan.epochs * -(-rows // plan.local.batch_size)


class Teller:
    """Tells progress when it has moved by PROGRESS_STEP, so that a fast loop is not slowed by its listener."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress = progress
        self._steps = max(steps, 1)
        self._told = 0.0

    def step(self, done: int) -> None:
        """Say that `done` steps are made."""
        share = done / self._steps
        if share - self._told >= PROGRESS_STEP or share >= 1.0:
            self._told = share
            self._progress(min(share, 1.0))


def _check_part(name: str, part: Any) -> None:
    if not isinstance(part, Mapping) or not part:
        raise ShapeError(f"the {name} part of read() is not a mapping of name to array", hint="see tasks/port.py")
    for key, array in part.items():
        if not isinstance(array, np.ndarray) or array.ndim == 0:
            raise ShapeError(f"{key!r} of the {name} part is not a numpy array with rows", hint="use np.asarray(…)")
    rows = row_count(part)
    for key, array in part.items():
        if len(array) != rows:
            first = next(iter(part))
            raise ShapeError(
                f"{key!r} of the {name} part has {len(array)} rows, {first!r} has {rows}",
                hint="all arrays of a part share their rows",
            )
