"""Robust rules: what they cost, and what they are worth against liars.

    cd benchmarks && python -m robust                    # both; about ten minutes of CPU
    cd benchmarks && python -m robust --only speed
    cd benchmarks && python -m robust --only attacks --seeds 1
    cd benchmarks && python -m robust --only liars       # more liars, fewer, and lies of other lengths

Speed: CPU seconds (user and system) of one thread, contenders taking turns. Attacks: accuracy on held-out digits,
20 sites of which 4 lie, mean over seeds ± standard deviation; with rows dealt evenly, and by a Dirichlet(0.3) draw a
class. Rows go to results/local/robust.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from archipel.federated.robust.robust import Robust, robust_of
from archipel.spec.job import FederationSpec, RobustSpec
from robust import learning, speed
from robust.attacks import ATTACKS, LABEL_FLIP, LENGTHS

RESULTS = Path(__file__).parent.parent / "results" / "local" / "robust.json"
COHORTS = (10, 20, 100)
FASTER, WORSE = 4.0, 0.02
"""Goals: times as fast as np.median; accuracy lost to any attack where sites are alike, by the recommended rules."""
RULES: tuple[tuple[str, str], ...] = (
    ("median", "none"),
    ("trimmed-mean", "none"),
    ("krum", "none"),
    ("multi-krum", "none"),
    ("geometric-median", "none"),
    ("centred-clipping", "none"),
    ("trimmed-mean", "buckets"),
    ("centred-clipping", "buckets"),
    ("median", "nearest-neighbours"),
    ("krum", "nearest-neighbours"),
    ("geometric-median", "nearest-neighbours"),
    ("centred-clipping", "nearest-neighbours"),
    ("trimmed-mean", "nearest-neighbours"),
)
RECOMMENDED = (RULES[-1], RULES[5])
DEALT: dict[str, float | None] = {"evenly": None, "Dirichlet(0.3)": 0.3}
UNLIKE = ((0.3, 1), (0.3, 2), (0.3, 4), (0.3, 7), (0.1, 4), (1.0, 4))
"""How unlike sites are, and how many of them lie and are tolerated."""
SHORT = ("none", *LENGTHS, "IPM 0.6", "ALIE z=1.5", LABEL_FLIP, "mimic")
Row = dict[str, object]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the rows."""
    parser = argparse.ArgumentParser(prog="robust", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=["speed", "attacks", "liars"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=9)
    wanted = parser.parse_args(words)
    rows: list[Row] = []
    with threadpool_limits(1):
        if wanted.only in {None, "speed"}:
            rows += _speed(wanted.repetitions)
        if wanted.only in {None, "attacks"}:
            for dealt in DEALT:
                rows += _attacks(dealt, wanted.seeds)
        if wanted.only in {None, "liars"}:
            for alpha, liars in UNLIKE:
                rows += _liars(alpha, liars, wanted.seeds)
    versions = {name: importlib.metadata.version(name) for name in ("archipel", "numpy")}
    versions |= {"python": platform.python_version(), "scikit-learn (the digits)": "1.9.1"}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([{**row, "versions": versions} for row in rows], indent=2) + "\n", encoding="utf-8")
    print(f"rows written to benchmarks/results/local/{RESULTS.name}")


def _speed(repetitions: int) -> list[Row]:
    rows: list[Row] = []
    for updates in COHORTS:
        seconds = speed.measure(updates, repetitions)
        what = f"{updates} updates x {speed.COLUMNS:,} float32"
        print(f"\n{what}, median of CPU seconds, one thread")
        for name, taken in seconds.items():
            ratio = seconds[speed.NUMPY] / taken
            print(f"{name:48}{taken:9.4f}{ratio:8.1f} x np.median")
            rows.append(_row(f"{what}: {name}", taken, "CPU-s"))
            if name in {"median", "trimmed mean"}:
                rows.append(
                    _row(f"{what}: {name}, times as fast as np.median", ratio, "1", f">= {FASTER:g}", ratio >= FASTER)
                )
    return rows


def _attacks(dealt: str, seeds: int) -> list[Row]:
    print(f"\nrows dealt {dealt}: accuracy, {learning.LIARS} of {learning.SITES} sites lie, {seeds} seeds")
    print(f"| {'rule':42} | " + " | ".join(ATTACKS) + " |")
    print("|---|" + "---|" * len(ATTACKS))
    rows: list[Row] = []
    for rule in (None, *RULES):
        found = {attack: scores(rule, attack, DEALT[dealt], seeds) for attack in ATTACKS}
        print(f"| {named(rule):42} | {' | '.join(map(_told, found.values()))} |", flush=True)
        what = f"digits dealt {dealt}, {named(rule)}"
        for attack, seen in found.items():
            rows.append(_row(f"{what}, {attack}", statistics.fmean(seen) if seen else None, "accuracy") | _spread(seen))
        if rule in RECOMMENDED and dealt == "evenly":
            lost = lost_to_the_worst(found)
            rows.append(_row(f"{what}: lost to the worst attack", lost, "accuracy", f"<= {WORSE}", lost <= WORSE))
            print(f"  lost to the worst attack: {lost:.3f} (goal <= {WORSE}: {'met' if lost <= WORSE else 'NOT met'})")
    return rows


def _liars(alpha: float, liars: int, seeds: int) -> list[Row]:
    print(f"\nrows dealt Dirichlet({alpha}): accuracy, {liars} of {learning.SITES} sites lie, {seeds} seeds")
    print(f"| {'rule':42} | " + " | ".join(SHORT) + " |")
    rows: list[Row] = []
    for rule in RECOMMENDED:
        found = {attack: scores(rule, attack, alpha, seeds, liars) for attack in SHORT}
        print(f"| {named(rule):42} | {' | '.join(map(_told, found.values()))} |", flush=True)
        what = f"digits dealt Dirichlet({alpha}), {liars} lie, {named(rule)}"
        rows += [
            _row(f"{what}, {attack}", statistics.fmean(seen), "accuracy") | _spread(seen)
            for attack, seen in found.items()
        ]
    return rows


def scores(
    rule: tuple[str, str] | None, attack: str, alpha: float | None, seeds: int, liars: int = learning.LIARS
) -> list[float]:
    """Return a rule's accuracy under an attack by seed; empty where the run stops and names the site."""
    if rule is None and attack == "NaN":
        return []
    robust: Robust | None = None
    if rule is not None:
        spec = RobustSpec(rule=rule[0], mixing=rule[1], tolerate=liars)  # type: ignore[arg-type]
        robust = robust_of(FederationSpec(robust=spec))
    return [learning.accuracy(robust, attack, alpha, seed, liars) for seed in range(seeds)]


def lost_to_the_worst(found: dict[str, list[float]]) -> float:
    """Return by how much the mean accuracy of a rule is lower under the worst attack than under none."""
    return statistics.fmean(found["none"]) - min(map(statistics.fmean, found.values()))


def _spread(seen: list[float]) -> Row:
    return {"seeds": len(seen), "deviation": round(statistics.stdev(seen), 4) if len(seen) > 1 else None}


def _told(seen: list[float]) -> str:
    if len(seen) < 2:
        return f"{seen[0]:.3f}" if seen else "stops"
    return f"{statistics.fmean(seen):.3f} ± {statistics.stdev(seen):.3f}"


def named(rule: tuple[str, str] | None) -> str:
    """Return a rule's name in the tables, with its mixing; None: the mean."""
    if rule is None:
        return "mean"
    return rule[0] if rule[1] == "none" else f"{rule[1]} + {rule[0]}"


def _row(name: str, value: float | None, unit: str, goal: str = "", met: bool | None = None) -> Row:  # noqa: FBT001
    return {"name": name, "value": None if value is None else round(value, 4), "unit": unit, "goal": goal, "met": met}


if __name__ == "__main__":
    sys.exit(main())
