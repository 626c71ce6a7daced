"""FLUTE's table: logistic regression, 1,000 clients of 60 examples, 10 a round, 100 rounds.

"rounds" is all hundred, the first with what it compiles included; "command" is a process from its start to the model's
accuracy, imports and reading included. A peer is started anew each time; the examples are made, not MNIST's.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from archipel.tasks.executors import NAMES
from rounds.result import Row
from simulation.commands import simulate
from simulation.contenders import Workload
from simulation.costs import Cost, section
from simulation.costs import total as summed
from simulation.examples import write_examples
from simulation.peer import Peers, nothing_lost
from simulation.report import row

GOAL_SECONDS = 1.5


def measure(repeats: int, without: Sequence[str]) -> list[Row]:
    """Let each contender do the hundred rounds, in turns; Flower once."""
    title = f"FLUTE's table: seconds of 100 rounds, medians of {repeats}, Flower once"
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as name, section(title):
        folder = Path(name)
        write_examples("flute", folder / "examples")
        workload = Workload("flute", folder / "examples", folder / "scratch")
        found: dict[str, list[_Figures]] = {}
        for repeat in range(repeats):
            for executor in NAMES:
                with nothing_lost():
                    found.setdefault(executor, []).append(_ours(workload, executor, folder / f"{executor}{repeat}"))
            for peer in ("pfl", "flower"):
                if peer not in without and (peer == "pfl" or repeat == 0):
                    with nothing_lost():
                        found.setdefault(peer, []).append(_theirs(workload, peer, folder / f"peers{peer}{repeat}"))
        return _told({name: figures for name, figures in found.items() if figures})


class _Figures:
    def __init__(self, rounds_seconds: float, command: Cost, accuracy: float) -> None:
        self.rounds_seconds = rounds_seconds
        self.command = command
        self.accuracy = accuracy


def _ours(workload: Workload, executor: str, folder: Path) -> _Figures:
    done = simulate(("flute",), workload.examples, executor, folder)
    return _Figures(done.answer["seconds"], done.cost, done.answer["test"]["accuracy"])


def _theirs(workload: Workload, name: str, folder: Path) -> _Figures:
    rounds = workload.job.federation.rounds
    with Peers(folder) as peers:
        turn = peers.start(name, workload, rounds)
        costs = [turn(step) for step in range(1, rounds + 1)]
        accuracy = peers.accuracy(name)
        return _Figures(summed(costs).wall, peers.whole(name), accuracy)


def _told(found: dict[str, list[_Figures]]) -> list[Row]:
    print(f"{'':20}{'rounds, s':>11}{'command, s':>12}{'command, CPU-s':>16}{'accuracy':>10}")
    rows, walls = [], {}
    for name, figures in found.items():
        walls[name] = statistics.median(one.rounds_seconds for one in figures)
        whole = statistics.median(one.command.wall for one in figures)
        cpu = statistics.median(one.command.cpu for one in figures)
        print(f"{name:20}{walls[name]:11.2f}{whole:12.2f}{cpu:16.2f}{figures[-1].accuracy:10.3f}")
        rows.append(row(f"flute: {name}, command", whole, "s"))
        rows.append(row(f"flute: {name}, command, CPU", cpu, "CPU-s"))
    best = min((name for name in NAMES if name in walls), key=walls.__getitem__)
    for name, wall in walls.items():
        rows.append(row(f"flute: {name}, 100 rounds", wall, "s", at_most=GOAL_SECONDS if name == best else None))
    return rows
