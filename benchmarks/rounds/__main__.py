"""`python -m rounds` in benchmarks/ (`make bench-rounds`): contenders interleaved, medians, a table and JSON rows.

    --repeats N       how often each contender runs each workload (default 3; Flower, whose rounds take long, once)
    --size SIZE       one workload only: "0.1 MB", "10 MB" or "100 MB" (may be given more than once)
    --quick           0.1 MB and one repeat only
    --without NAME    leave a contender out: flower, raw, kept or archipel

Figures are CPU seconds (user and system, all processes of the contender) for one round: the model goes from the server
to four sites and as many bytes come back from each. Memory is the largest resident size a process ever had. A
contender that fails leaves its folder with its logs behind, its rows out, and the rest goes on; the exit code is 1.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from rounds import flower, ours, raw
from rounds.measure import ContenderError, adopt_orphans
from rounds.result import MEGABYTE, Contender, Cost, Row, Workload

CONTENDERS = {
    "archipel": Contender(measure=ours.measure, rounds={"0.1 MB": 100, "10 MB": 10, "100 MB": 4}),
    "raw": Contender(measure=raw.measure, rounds={"0.1 MB": 200, "10 MB": 10, "100 MB": 5}),
    "kept": Contender(measure=raw.measure_kept, rounds={"0.1 MB": 200, "10 MB": 10, "100 MB": 5}),
    "flower": Contender(measure=flower.measure, rounds={"0.1 MB": 2, "10 MB": 2, "100 MB": 2}, repeats=1),
}
WIDTHS = {"0.1 MB": 6_250, "10 MB": 625_000, "100 MB": 6_250_000}
RESULTS = Path(__file__).resolve().parents[1] / "results/local/rounds.json"

Costs = dict[tuple[str, str], list[Cost]]


def main() -> None:
    """Measure and report."""
    arguments = _arguments()
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that contenders are ended with us
    names = [name for name in CONTENDERS if name not in arguments.without]
    if "flower" in names:
        flower.install()
    sizes = list(WIDTHS)[:1] if arguments.quick else arguments.size or list(WIDTHS)
    repeats = 1 if arguments.quick else arguments.repeats
    costs: Costs = {}
    failed = 0
    for repeat in range(repeats):
        for size in sizes:
            for name in names:
                if repeat < (CONTENDERS[name].repeats or repeats):
                    failed += not _measure(name, size, costs)
    rows = _rows(costs)
    if rows:
        _show(rows)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    sys.exit(1 if failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="rounds", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", action="append", choices=list(WIDTHS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--without", action="append", default=[], choices=list(CONTENDERS))
    return parser.parse_args()


def _measure(name: str, size: str, costs: Costs) -> bool:
    """Let a contender run a workload once, and note what it cost; False where it failed."""
    contender = CONTENDERS[name]
    workload = Workload(name=size, parameters=4 * WIDTHS[size] + 2, rounds=contender.rounds[size])
    folder = Path(tempfile.mkdtemp(prefix="archipel-bench-"))
    began = time.monotonic()
    try:
        cost = contender.measure(workload, folder)
    except (ContenderError, TimeoutError) as error:
        print(f"{name} {size}: FAILED: {error}; its logs are in {folder}", flush=True)
        return False
    shutil.rmtree(folder)
    costs.setdefault((name, size), []).append(cost)
    took = time.monotonic() - began
    print(f"{name} {size}: {cost.cpu_seconds:.3f} CPU-s a round (measured in {took:.0f} s)", flush=True)
    return True


def _rows(costs: Costs) -> list[Row]:
    versions = {
        "archipel": version("archipel"),
        "flwr": flower.VERSION,
        "grpcio": version("grpcio"),
        "python": platform.python_version(),
    }
    rows: list[Row] = []
    for (name, size), found in costs.items():
        seconds = statistics.median(cost.cpu_seconds for cost in found)
        goal, limit = _round_goal(name, size, costs)
        met = None if limit is None else seconds <= limit
        rows.append(
            Row(name=f"{name}: round of {size}", value=seconds, unit="CPU-s", goal=goal, met=met, versions=versions)
        )
        for process in found[0].peak_bytes:
            peak = statistics.median(cost.peak_bytes[process] for cost in found) / MEGABYTE
            goal, limit = _memory_goal(name, size, process)
            met = None if limit is None else peak <= limit
            title = f"{name}: peak memory of {process}, {size}"
            rows.append(Row(name=title, value=peak, unit="MB", goal=goal, met=met, versions=versions))
    return rows


def _round_goal(name: str, size: str, costs: Costs) -> tuple[str, float | None]:
    if name == "archipel" and size == "0.1 MB":
        return "<= 0.1", 0.1
    limit = costs.get(("raw", size))
    if name == "archipel" and size == "100 MB" and limit:
        seconds = 2 * statistics.median(cost.cpu_seconds for cost in limit)
        return f"<= {seconds:.2f} (2 x raw gRPC with TLS)", seconds
    return "", None


def _memory_goal(name: str, size: str, process: str) -> tuple[str, float | None]:
    if (name, size, process) == ("archipel", "100 MB", "control"):
        return "<= 250 (2.5 x the model)", 250.0
    return "", None


def _show(rows: list[Row]) -> None:
    table = Table("what", "value", "unit", "goal", "met", title="A round in which nothing is computed, four sites")
    for row in rows:
        met = "" if row.met is None else ("yes" if row.met else "NO")
        table.add_row(row.name, f"{row.value:.3g}", row.unit, row.goal, met)
    Console().print(table)
    Console().print("versions: " + ", ".join(f"{name} {number}" for name, number in rows[0].versions.items()))


if __name__ == "__main__":
    main()
