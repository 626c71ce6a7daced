"""CPU seconds of median and trimmed mean beside np.median, on the same float32 updates, one thread."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import numpy as np

from archipel.federated.algorithms import FedAvg
from archipel.federated.fold import fold_arrays
from archipel.federated.port import RoundFacts
from archipel.federated.robust.columns import middle_mean
from archipel.federated.robust.means import STACK_BYTES
from archipel.federated.robust.robust import robust_of
from archipel.spec.job import FederationSpec, RobustSpec

COLUMNS = 200_000
NUMPY = "np.median"
Seconds = dict[str, float]


def measure(updates: int, repetitions: int) -> Seconds:
    """Return each contender's median of CPU seconds; they take turns."""
    rows = np.random.default_rng(0).standard_normal((updates, COLUMNS)).astype(np.float32)
    tolerate = max(1, updates // 5)
    running: dict[str, Callable[[], object]] = {
        NUMPY: lambda: np.median(rows, axis=0),
        "np.sort": lambda: np.sort(rows, axis=0),
        "median": lambda: _in_blocks(rows, (updates - 1) // 2),
        "trimmed mean": lambda: _in_blocks(rows, tolerate),
        "whole fold, median": _fold(rows, RobustSpec(rule="median", mixing="none", tolerate=tolerate)),
        "whole fold, trimmed mean": _fold(rows, RobustSpec(mixing="none", tolerate=tolerate)),
        "whole fold, nearest neighbours + trimmed mean": _fold(rows, RobustSpec(tolerate=tolerate)),
        "whole fold, centred clipping": _fold(
            rows, RobustSpec(rule="centred-clipping", mixing="none", tolerate=tolerate)
        ),
        "whole fold, mean": _fold(rows, None),
    }
    if not np.array_equal(running["median"](), running[NUMPY]()):
        raise SystemExit("the median is another than numpy's")
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(repetitions):
        for name, run in running.items():
            gc.collect()
            before = time.process_time()
            run()
            seconds[name].append(time.process_time() - before)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def _in_blocks(rows: np.ndarray, trim: int) -> np.ndarray:
    """Combine as a fold does: a few columns of all updates at a time, in memory of its own."""
    width = STACK_BYTES // (len(rows) * rows.itemsize)
    found, memory = np.empty(rows.shape[1], rows.dtype), np.empty(len(rows) * width, rows.dtype)
    for start in range(0, rows.shape[1], width):
        some = rows[:, start : start + width]
        stack = memory[: some.size].reshape(some.shape)
        stack[:] = some
        found[start : start + width] = middle_mean(stack, trim)
    return found


def _fold(rows: np.ndarray, spec: RobustSpec | None) -> Callable[[], object]:
    robust = robust_of(FederationSpec(robust=spec))
    updates = {f"s{place:03}": (1.0, {"delta": row}) for place, row in enumerate(rows)}
    facts = RoundFacts(step=1, cohort=len(rows), population=len(rows))
    model = np.zeros(rows.shape[1], np.float32)
    return lambda: fold_arrays(FedAvg({}), facts, updates, model, robust=robust)
