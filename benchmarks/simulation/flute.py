"""FLUTE's table: logistic regression, 1,000 clients of 60 examples, 10 a round, 100 rounds.

"rounds" is all hundred, what the first compiles or starts included; "command" is a process from its start to the
model's accuracy, imports and reading included: `archipel simulate`, or a peer's program, each time anew. The examples
are made, not MNIST's. The goal is held against CPU seconds, which on an idle machine are the clock's: ours is one
thread.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from archipel.tasks.executors import NAMES
from rounds.result import Row
from simulation.commands import simulate
from simulation.contenders import Workload, rounds_by
from simulation.costs import Cost, median, section, total
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


@dataclass(frozen=True)
class _Figures:
    rounds: Cost
    command: Cost
    accuracy: float


def _ours(workload: Workload, executor: str, folder: Path) -> _Figures:
    turn, _ = rounds_by(workload, executor, folder.name)
    rounds = [turn(step) for step in range(1, workload.job.federation.rounds + 1)]
    done = simulate(("flute",), workload.examples, executor, folder)
    return _Figures(rounds=total(rounds), command=done.cost, accuracy=done.answer["test"]["accuracy"])


def _theirs(workload: Workload, name: str, folder: Path) -> _Figures:
    count = workload.job.federation.rounds
    with Peers(folder) as peers:
        turn = peers.start(name, workload, count)
        rounds = [turn(step) for step in range(1, count + 1)]
        accuracy = peers.accuracy(name)
        return _Figures(rounds=total(rounds), command=peers.whole(name), accuracy=accuracy)


def _told(found: dict[str, list[_Figures]]) -> list[Row]:
    print(f"{'':20}{'rounds, CPU-s':>14}{'wall s':>9}{'command, CPU-s':>16}{'wall s':>9}{'accuracy':>10}")
    rows, spent = [], {}
    for name, figures in found.items():
        rounds, command = median([one.rounds for one in figures]), median([one.command for one in figures])
        spent[name] = rounds.cpu
        accuracy = figures[-1].accuracy
        print(
            f"{name:20}{rounds.cpu:14.2f}{rounds.wall:9.2f}{command.cpu:16.2f}{command.wall:9.2f}{accuracy:10.3f}",
            flush=True,
        )
        rows.append(row(f"flute: {name}, 100 rounds, wall", rounds.wall, "s"))
        rows.append(row(f"flute: {name}, command", command.cpu, "CPU-s"))
        rows.append(row(f"flute: {name}, command, wall", command.wall, "s"))
    best = min((name for name in NAMES if name in spent), key=spent.__getitem__)
    for name, cpu in spent.items():
        rows.append(row(f"flute: {name}, 100 rounds", cpu, "CPU-s", at_most=GOAL_SECONDS if name == best else None))
    return rows
