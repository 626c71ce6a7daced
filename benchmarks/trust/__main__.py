"""What trust costs, in CPU seconds (user and system): `cd benchmarks && python -m trust`.

    --turns N           how often everything is measured, one after the other (default 3; Flower's 100 sites: once)
    --parameters N      values of an update in secure sums (default 1,000,000)
    --only PART         secure, worker, kept, accounting or rounds; may be given more than once

Medians over the turns, with the least and the most. Rows go to results/local/trust.json.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from rounds import flower
from rounds.measure import adopt_orphans
from trust import accounting, kept, secure, whole_rounds, worker
from trust.figure import Figure

RESULTS = Path(__file__).resolve().parents[1] / "results/local/trust.json"
Part = Callable[[], list[Figure]]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows."""
    wanted = _arguments().parse_args(words)
    parts = _parts(wanted.parameters)
    found: dict[str, list[Figure]] = {}
    for turn in range(wanted.turns):
        for name in wanted.only or parts:
            for measure, is_once in parts[name]:
                if turn == 0 or not is_once:
                    for figure in measure():
                        found.setdefault(figure.name, []).append(figure)
                        print(f"turn {turn + 1}: {figure.name}: {figure.value:.4g} {figure.unit}", flush=True)
    rows = [_row(figures) for figures in found.values()]
    print("\n| what | median (least to most) | unit | goal | met |\n|---|---|---|---|---|")
    for row in rows:
        met = {None: "", True: "yes", False: "**no**"}[row["met"]]
        print(f"| {row['name']} | {row['value']:.3g} ({row['least']:.3g} to {row['most']:.3g}) | {row['unit']} "
              f"| {row['goal']} | {met} |")  # fmt: skip
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    print(f"rows written to benchmarks/results/local/{RESULTS.name}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trust", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--only", action="append", choices=list(_parts(1)))
    return parser


def _parts(parameters: int) -> dict[str, list[tuple[Part, bool]]]:
    """Return what is measured in a turn, and whether in the first only."""
    return {
        "secure": [
            *((functools.partial(measure, parameters), False) for measure in secure.TURNS),
            *((functools.partial(measure, parameters), True) for measure in secure.ONCE),
        ],
        "worker": [(worker.starts, False)],
        "kept": [(kept.bytes_at_rest, False), (kept.entries, False)],
        "accounting": [(accounting.epsilons, False)],
        "rounds": [(_whole_rounds, False)],
    }


def _whole_rounds() -> list[Figure]:
    adopt_orphans()
    return whole_rounds.rounds()


def _row(figures: list[Figure]) -> dict[str, object]:
    values, first = [figure.value for figure in figures], figures[0]
    value = statistics.median(values)
    return {
        "name": first.name,
        "value": value,
        "least": min(values),
        "most": max(values),
        "turns": len(values),
        "unit": first.unit,
        "goal": "" if first.limit is None else f"<= {first.limit:g}",
        "met": None if first.limit is None else value <= first.limit,
        "versions": {
            **{name: version(name) for name in ("archipel", "cryptography", "dp-accounting", "numpy")},
            "flwr": flower.VERSION,
            "python": platform.python_version(),
        },
    }


if __name__ == "__main__":
    main()
