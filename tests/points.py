"""A small job over a population, for the tests that spread it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archipel.data.bundle import pack_bundle
from archipel.simulation.opening import open_here
from archipel.simulation.population.partitions import open_population
from archipel.simulation.spread.messages import Opening
from archipel.simulation.virtual import VirtualRun
from archipel.spec import JobSpec, digest_of, read_job
from archipel.tasks.executors import open_executor
from archipel.tasks.port import Adapter

TASK = """
import os

import numpy as np

from archipel.tasks.numpy import Network, NumpyTask, Split


class Points(NumpyTask):
    classes, features, label = ("left", "right"), ("x",), "side"

    def __init__(self, *, home=0):
        self.home = home  # the one process that it can be opened in, if not 0

    def statistics(self, site):
        return {}

    def read(self, site, statistics):
        print("a task may print")
        if self.home not in {0, os.getpid()}:
            os._exit(9)
        rows = dict(np.load(site.path / "points.npz"))
        return Split(train=rows, test=rows)

    def model(self, statistics):
        return Network(inputs=1, hidden=(8,), outputs=2, mean=np.zeros(1), scale=np.ones(1))
"""
JOB = """
name = "points"
[task]
code = "task.py:Points"
options = {{ home = {home} }}
[data]
dataset = "points"
[federation]
algorithm = "{algorithm}"
rounds = 4
[federation.local]
learning_rate = 0.3
batch_size = 4
[simulation]
clients = 40
cohort = 25
rows = 12
"""


@dataclass
class Case:
    """A job over some rows, and what opens it."""

    job: JobSpec
    folder: Path
    rows: Path
    adapter: Adapter
    digest: str

    def run(self, controls: Path) -> VirtualRun:
        assert self.job.simulation is not None
        population = open_population(self.job.simulation, self.job.federation.seed, self.adapter.split.train)
        return VirtualRun(self.job, self.adapter, population, controls)

    def bundle(self) -> bytes:
        return pack_bundle(self.folder, self.job.task.include)

    def opening(self) -> Opening:
        return Opening(job=self.job, folder=str(self.folder), data=str(self.rows), digest=self.digest, executor="loop")


def case(place: Path, *, algorithm: str = "fedavg", odd: float = 0.0, dies: bool = False) -> Case:
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 200)
    rows = place / "rows"
    rows.mkdir()
    x = rng.normal(side * 2.0 - 1.0, 0.6)
    np.savez(rows / "points.npz", x=x + odd, side=side)
    (place / "task.py").write_text(TASK)
    (place / "job.toml").write_text(JOB.format(algorithm=algorithm, home=os.getpid() if dies else 0))
    job = read_job(place / "job.toml")
    return Case(job, place, rows, *open_here(job, place, rows))


def inline(known: Case) -> str:
    run = known.run(known.folder / "controls")
    list(run.rounds(open_executor("loop", known.adapter)))
    return digest_of(run.packed())
