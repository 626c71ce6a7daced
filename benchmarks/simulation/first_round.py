"""What one round of the MLP costs from the command: imports, reading 60,000 examples, one cohort of 50, scoring."""

from __future__ import annotations

import tempfile
from pathlib import Path

from archipel.tasks.executors import NAMES
from rounds.result import Row
from simulation.commands import simulate
from simulation.costs import Cost, median, section
from simulation.examples import write_examples
from simulation.peer import nothing_lost
from simulation.report import row

GOALS = {"loop": 5.0, "stacked": 5.0, "compiled": 9.0}


def measure(repeats: int) -> list[Row]:
    """Run the command with each executor in turn."""
    title = f"the first round of the MLP, from the command; medians of {repeats}"
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as name, section(title):
        folder = Path(name)
        write_examples("mlp", folder / "examples")
        costs: dict[str, list[Cost]] = {}
        for repeat in range(repeats):
            for executor in NAMES:
                with nothing_lost():
                    where = folder / f"{executor}{repeat}"
                    done = simulate(("mlp", "once"), folder / "examples", executor, where)
                    costs.setdefault(executor, []).append(done.cost)
        rows = []
        for executor, taken in costs.items():
            spent = median(taken)
            print(f"{executor:20}{spent.cpu:9.2f} CPU-s{spent.wall:9.2f} s")
            rows.append(row(f"first round, {executor}", spent.cpu, "CPU-s", at_most=GOALS[executor]))
        return rows
