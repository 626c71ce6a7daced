"""Those who work in this process: central training, the loop over clients by hand, and our executors.

"central" is eager PyTorch with batches of 10 on the cohort's examples; "clients, by hand" is the loop over clients as
one writes it: a copy of the model, torch.optim, a mean of state dicts. The executors do a whole round: draw, train,
fold, step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import torch
from torch import nn

from archipel.simulation.opening import open_here
from archipel.simulation.population.partitions import open_population
from archipel.simulation.virtual import RoundRecord, VirtualRun, simulation_of
from archipel.spec import ArchipelError, JobSpec, read_job
from archipel.spec.tensors import views
from archipel.tasks.examples import epoch_batches
from archipel.tasks.executors import NAMES, open_executor
from archipel.tasks.port import LocalPlan
from simulation.costs import Turn, timed
from simulation.job.models import build

JOB = Path(__file__).parent / "job/job.toml"


class Workload:
    """One preset of the job, opened over its examples."""

    def __init__(self, name: str, examples: Path, scratch: Path, rounds: int | None = None) -> None:
        """Open it; `scratch` is for what runs leave behind, `rounds` replaces the job's."""
        self.name = name
        self.examples = examples
        self.scratch = scratch
        self.job = _job(name, rounds)
        self.adapter, _ = open_here(self.job, JOB.parent, examples)
        simulation = simulation_of(self.job)
        self.population = open_population(simulation, self.job.federation.seed, self.adapter.split.train)
        self.cohort = min(simulation.cohort, self.population.count)
        self._drawing = self.run("plans")

    def plans(self, step: int) -> list[LocalPlan]:
        """Return what the clients of a round do."""
        return self._drawing.plans(step)

    def run(self, name: str) -> VirtualRun:
        """Begin a run."""
        return VirtualRun(self.job, self.adapter, self.population, self.scratch / name)

    def model(self) -> nn.Module:
        """Return the model with the weights that everybody begins with."""
        module = build(self.name)
        first = self.adapter.initial(self.job.federation.seed)
        arrays = views(first.vector, first.manifest)
        module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
        return module


def central(workload: Workload) -> Turn:
    """Train one model on the cohort's examples, in the clients' batches."""
    step_on = _stepper(workload)
    module = workload.model()
    optimizer = torch.optim.SGD(module.parameters(), lr=workload.job.federation.local.learning_rate)

    def run(step: int) -> None:
        for plan in workload.plans(step):
            step_on(module, optimizer, plan)

    return timed(run)


def by_hand(workload: Workload) -> Turn:
    """Train a copy of the model for each client, and average the state dicts."""
    step_on = _stepper(workload)
    shared = workload.model()

    def run(step: int) -> None:
        cohort = workload.plans(step)
        total = sum(len(plan.rows) for plan in cohort if plan.rows is not None)
        mean = {name: torch.zeros_like(value) for name, value in shared.state_dict().items()}
        for plan in cohort:
            assert plan.rows is not None
            module = copy.deepcopy(shared)
            optimizer = torch.optim.SGD(module.parameters(), lr=workload.job.federation.local.learning_rate)
            step_on(module, optimizer, plan)
            for name, value in module.state_dict().items():
                mean[name] += value * (len(plan.rows) / total)
        shared.load_state_dict(mean)

    return timed(run)


def rounds_by(workload: Workload, name: str, scratch: str) -> tuple[Turn, VirtualRun]:
    """Return the rounds by an executor, which the first turn opens, and their run."""
    run = workload.run(scratch)

    def rounds() -> Iterator[RoundRecord]:
        yield from run.rounds(open_executor(name, workload.adapter))

    doing = rounds()
    return timed(lambda _step: next(doing) and None), run


def executors(workload: Workload, names: tuple[str, ...] = NAMES) -> dict[str, tuple[Turn, VirtualRun]]:
    """Return the executors that can compute the workload, each with its run; the others are named with the reason."""
    found: dict[str, tuple[Turn, VirtualRun]] = {}
    for name in names:
        trial, _ = rounds_by(workload, name, "trial")
        try:
            trial(1)
        except ArchipelError as error:
            print(f"{workload.name}: {name}: {error.message}", flush=True)
        else:
            found[name] = rounds_by(workload, name, name)
    return found


def _job(name: str, rounds: int | None) -> JobSpec:
    job = read_job(JOB, (name,))
    if rounds is None:
        return job
    return msgspec.structs.replace(job, federation=msgspec.structs.replace(job.federation, rounds=rounds))


def _stepper(workload: Workload) -> Callable[[nn.Module, torch.optim.Optimizer, LocalPlan], None]:
    samples, loss = workload.adapter.split.train, nn.CrossEntropyLoss()
    x, y = torch.from_numpy(samples["x"]), torch.from_numpy(samples["y"])

    def step_on(module: nn.Module, optimizer: torch.optim.Optimizer, plan: LocalPlan) -> None:
        assert plan.rows is not None
        for _, rows in epoch_batches(len(plan.rows), plan):
            chosen = torch.from_numpy(rows)
            optimizer.zero_grad()
            loss(module(x[chosen]), y[chosen]).backward()
            optimizer.step()

    return step_on
