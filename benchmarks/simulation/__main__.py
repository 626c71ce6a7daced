"""Rounds of virtual clients, in parts of what centralised training of the same examples costs.

    cd benchmarks && python -m simulation                       # all models, 9 rounds each, minutes
    cd benchmarks && python -m simulation --models mlp lr --rounds 15

Contenders take turns round by round; what counts is the median of CPU seconds (user and system) of this process,
without the first round, which compiles. "central" is eager PyTorch with batches of 10 on the cohort's examples;
"clients, by hand" is the loop over clients as one writes it: a copy of the model, torch.optim, a mean of state dicts.
The engines do a whole round: draw, train, fold, step. Rows go to results/local/simulation.json.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from archipel.data.site_data import SiteData
from archipel.simulation.population.partitions import open_population
from archipel.simulation.virtual import VirtualRun
from archipel.spec import ArchipelError, JobSpec
from archipel.spec.job import job_from
from archipel.tasks.examples import epoch_batches
from archipel.tasks.executors import NAMES, open_executor
from archipel.tasks.port import LocalPlan, Samples
from archipel.tasks.threads import settle_threads
from archipel.tasks.torch.adapter import TorchAdapter
from simulation.workload import COHORTS, Workload, build, manual_seed

GOALS = {"mlp": 0.25, "lr": 0.20, "cnn": 0.95, "gru": 1.0, "transformer": 1.0}
RESULTS = Path(__file__).parent.parent / "results" / "local" / "simulation.json"
RATE, BATCH = 0.05, 10


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the rows."""
    wanted = _arguments().parse_args(words)
    settle_threads("torch")
    rows: list[dict[str, Any]] = []
    for model in wanted.models:
        rows += _measure(model, wanted.rounds)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"rows written to benchmarks/results/local/{RESULTS.name}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--rounds", type=int, default=10, help="the first is not counted")
    return parser


def _measure(model: str, rounds: int) -> list[dict[str, Any]]:
    job = _job(model, rounds)
    site = SiteData(site="here", path=Path(), columns={}, row_ids=np.empty(0, np.int64))
    adapter = TorchAdapter(job, Workload(model), site, {})
    with tempfile.TemporaryDirectory() as folder:
        running: dict[str, Callable[[int], None]] = {}
        assert job.simulation is not None
        population = open_population(job.simulation, 0, adapter.split.train)
        plans = VirtualRun(job, adapter, population, Path(folder) / "plans").plans
        running["central"] = _central(model, adapter.split.train, plans)
        running["clients, by hand"] = _by_hand(model, adapter.split.train, plans)
        ends: dict[str, VirtualRun] = {}
        for name in NAMES:
            try:
                executor = open_executor(name, adapter)
                run = VirtualRun(job, adapter, population, Path(folder) / name)
                next(VirtualRun(job, adapter, population, Path(folder) / "trial").rounds(executor))
            except ArchipelError as error:
                print(f"{model}: {name}: {error.message}")
                continue
            running[name] = _round_of(run.rounds(executor))
            ends[name] = run
        seconds = _take_turns(running, rounds)
    accuracy = {name: run.figures("test")["accuracy"] for name, run in ends.items()}
    return _told(model, seconds, accuracy)


def _job(model: str, rounds: int) -> JobSpec:
    return job_from(
        {
            "name": "workload",
            "task": {"code": "workload.py:Workload", "framework": "torch"},
            "data": {"dataset": "made"},
            "federation": {"rounds": rounds, "local": {"batch_size": BATCH, "learning_rate": RATE}},
            "simulation": {"partition": "key", "key": "client", "cohort": COHORTS[model]},
        }
    )


Plans = Callable[[int], list[LocalPlan]]


def _central(model: str, samples: Samples, plans: Plans) -> Callable[[int], None]:
    """Train one model on the cohort's examples, in the clients' batches."""
    manual_seed()
    module, loss = build(model), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    x, y = torch.from_numpy(samples["x"]), torch.from_numpy(samples["y"])

    def run(step: int) -> None:
        for plan in plans(step):
            assert plan.rows is not None
            for _, rows in epoch_batches(len(plan.rows), plan):
                chosen = torch.from_numpy(rows)
                optimizer.zero_grad()
                loss(module(x[chosen]), y[chosen]).backward()
                optimizer.step()

    return run


def _by_hand(model: str, samples: Samples, plans: Plans) -> Callable[[int], None]:
    """Train a copy of the model for each client, and average the state dicts."""
    manual_seed()
    shared, loss = build(model), nn.CrossEntropyLoss()
    x, y = torch.from_numpy(samples["x"]), torch.from_numpy(samples["y"])

    def run(step: int) -> None:
        cohort = plans(step)
        total = sum(len(plan.rows) for plan in cohort if plan.rows is not None)
        mean = {name: torch.zeros_like(value) for name, value in shared.state_dict().items()}
        for plan in cohort:
            assert plan.rows is not None
            module = copy.deepcopy(shared)
            optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
            for _, rows in epoch_batches(len(plan.rows), plan):
                chosen = torch.from_numpy(rows)
                optimizer.zero_grad()
                loss(module(x[chosen]), y[chosen]).backward()
                optimizer.step()
            for name, value in module.state_dict().items():
                mean[name] += value * (len(plan.rows) / total)
        shared.load_state_dict(mean)

    return run


def _round_of(rounds: Iterator[Any]) -> Callable[[int], None]:
    return lambda _step: next(rounds) and None


def _take_turns(running: dict[str, Callable[[int], None]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for step in range(1, rounds + 1):
        for name, run in running.items():
            before = time.process_time()
            run(step)
            seconds[name].append(time.process_time() - before)
    return {name: taken[1:] for name, taken in seconds.items()}


def _told(model: str, seconds: dict[str, list[float]], accuracy: dict[str, float]) -> list[dict[str, Any]]:
    limit = statistics.median(seconds["central"])
    print(f"{model}: {COHORTS[model]} clients a round, median CPU seconds of {len(seconds['central'])} rounds")
    print(f"{'':20}{'CPU-s':>9}{'x central':>11}{'accuracy':>10}")
    for name, taken in seconds.items():
        spent = statistics.median(taken)
        reached = f"{accuracy[name]:.3f}" if name in accuracy else ""
        print(f"{name:20}{spent:9.4f}{spent / limit:11.2f}{reached:>10}")
    best = min((name for name in seconds if name in accuracy), key=lambda name: statistics.median(seconds[name]))
    ratio = statistics.median(seconds[best]) / limit
    print(
        f"goal: <= {GOALS[model]} of central: {ratio:.2f} by {best}, {'met' if ratio <= GOALS[model] else 'NOT met'}\n"
    )
    versions = {name: importlib.metadata.version(name) for name in ("archipel", "numpy", "torch", "jax")}
    versions |= {"python": platform.python_version()}
    rows = [
        {
            "name": f"{model}: {name}",
            "value": round(statistics.median(taken) / limit, 3),
            "unit": "x central",
            "goal": f"<= {GOALS[model]}" if name == best else "",
            "met": ratio <= GOALS[model] if name == best else None,
        }
        for name, taken in seconds.items()
    ]
    return [{**row, "versions": versions} for row in rows]


if __name__ == "__main__":
    main()
