"""Weighted mean of 100 x 10 M float32, in parts of the speed at which one core reads memory.

    cd benchmarks && python -m aggregation              # 100 x 10 M: 4 GB of memory, 5 GB at most; 4 GB of disk
    cd benchmarks && python -m aggregation --updates 25 --repetitions 3
    cd benchmarks && python -m aggregation --without-files

Contenders take turns, so that a busy moment hits all of them; what counts is the median of CPU seconds (user and
system) of this process. The goal is about the fold as the product runs it: it also looks for NaN, adds the mean to
the model and writes the result. Rows go to results/local/aggregation.json.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from aggregation import contenders

GOAL, STRETCH = 0.4, 0.8
RESULTS = Path(__file__).parent.parent / "results" / "local" / "aggregation.json"
AVERAGED = 8
"""np.average copies all updates into a new array: it gets so many of them, and its figure is per byte."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows."""
    wanted = _arguments().parse_args(words)
    updates, weights = _updates(wanted.updates, wanted.parameters)
    with threadpool_limits(1), tempfile.TemporaryDirectory(dir=wanted.folder) as folder:
        running = _contenders(updates, weights, None if wanted.without_files else Path(folder))
        _require_same_result(running, updates, weights)
        seconds = _take_turns(running, wanted.repetitions)
    speeds = {name: _size(name, updates) / statistics.median(taken) / 1e9 for name, taken in seconds.items()}
    rows = _rows(speeds, wanted)
    _show(speeds, seconds, wanted)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"rows written to benchmarks/results/local/{RESULTS.name}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aggregation", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--parameters", type=int, default=10_000_000, help="values of an update")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=None, help="where the files go; default: the system's")
    parser.add_argument("--without-files", action="store_true")
    return parser


def _updates(count: int, size: int) -> tuple[list[npt.NDArray[np.float32]], list[float]]:
    """Make distinct buffers with different values, cheaply: rotations of one random vector, scaled."""
    base = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    updates = [np.roll(base, 997 * index) for index in range(count)]
    return updates, [float(50 + index % 17) for index in range(count)]


def _contenders(
    updates: list[npt.NDArray[np.float32]], weights: list[float], folder: Path | None
) -> dict[str, contenders.Contender]:
    few = updates[:AVERAGED], weights[:AVERAGED]
    running = {
        "read limit": contenders.read_limit(updates),
        "archipel, memory": contenders.archipel_memory(updates, weights),
        "numpy multiply + add": contenders.numpy_streaming(updates, weights),
        "np.average": contenders.numpy_average(*few),
    }
    torch = contenders.torch_add(updates, weights)
    if torch is not None:
        running["torch add_"] = torch
    if folder is not None:
        # A quarter of the updates, so that memory and page cache together stay under 5 GB.
        some = max(1, len(updates) // 4)
        paths = contenders.write_files(folder, updates[:some])
        running["archipel, files"] = contenders.archipel_files(paths, weights[:some], updates[0].size)
    return running


def _size(name: str, updates: list[npt.NDArray[np.float32]]) -> int:
    """Bytes of updates a contender reads."""
    count = {"np.average": min(AVERAGED, len(updates)), "archipel, files": max(1, len(updates) // 4)}
    return count.get(name, len(updates)) * updates[0].nbytes


def _require_same_result(
    running: Mapping[str, contenders.Contender], updates: list[npt.NDArray[np.float32]], weights: list[float]
) -> None:
    """Warm up, and hold every contender to the mean in double precision, on the first columns."""
    for name, run in running.items():
        result = run()
        if result is None:
            continue
        count = _size(name, updates) // updates[0].nbytes
        columns = np.array([update[:1000] for update in updates[:count]], np.float64)
        exact = np.average(columns, axis=0, weights=weights[:count])
        if not np.allclose(result[:1000], exact, atol=1e-5):
            raise SystemExit(f"{name} does not compute the mean")


def _take_turns(running: Mapping[str, contenders.Contender], repetitions: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for turn in range(repetitions):
        for name, run in running.items():
            gc.collect()
            before = time.process_time()
            run()
            seconds[name].append(time.process_time() - before)
        print(f"turn {turn + 1} of {repetitions}", flush=True)
    return seconds


def _rows(speeds: Mapping[str, float], wanted: argparse.Namespace) -> list[dict[str, object]]:
    versions = {name: importlib.metadata.version(name) for name in ("archipel", "numpy")}
    versions |= {"python": platform.python_version()}
    if "torch add_" in speeds:
        versions["torch"] = importlib.metadata.version("torch")
    what = f"weighted mean of {wanted.updates} x {wanted.parameters} float32"
    ratio = speeds["archipel, memory"] / speeds["read limit"]
    rows: list[dict[str, object]] = [
        {"name": f"{what}: {name}", "value": round(speed, 3), "unit": "GB/s", "goal": "", "met": None}
        for name, speed in speeds.items()
    ]
    rows += [
        {
            "name": f"{what}: share of the read limit, memory" + (" (stretch)" if goal == STRETCH else ""),
            "value": round(ratio, 3),
            "unit": "1",
            "goal": f">= {goal}",
            "met": ratio >= goal,
        }
        for goal in (GOAL, STRETCH)
    ]
    return [{**row, "versions": versions} for row in rows]


def _show(speeds: Mapping[str, float], seconds: Mapping[str, list[float]], wanted: argparse.Namespace) -> None:
    print(f"weighted mean of {wanted.updates} x {wanted.parameters:,} float32, one core, median of CPU seconds")
    print(f"{'':24}{'GB/s':>8}{'of the limit':>15}{'CPU-s':>9}{'spread':>15}")
    for name, speed in sorted(speeds.items(), key=lambda item: -item[1]):
        taken = seconds[name]
        share = speed / speeds["read limit"]
        spread = f"{min(taken):.2f}..{max(taken):.2f}"
        print(f"{name:24}{speed:8.2f}{share:15.2f}{statistics.median(taken):9.3f}{spread:>15}")
    ratio = speeds["archipel, memory"] / speeds["read limit"]
    verdict = "stretch met" if ratio >= STRETCH else "met" if ratio >= GOAL else "NOT met"
    print(f"goal: archipel, memory >= {GOAL} of the read limit (stretch {STRETCH}): {ratio:.2f}, {verdict}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"peak memory of this process: {peak:.1f} GB; np.average on {AVERAGED} updates, files on a quarter of them")


if __name__ == "__main__":
    main()
