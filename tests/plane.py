"""A small job of virtual clients for tests: points of two classes in the plane, by the framework that loads at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TASK = """
import os

import numpy as np

from archipel.tasks.numpy import Network, NumpyTask, Split, rows_of


class Points(NumpyTask):
    classes, features, label = ("left", "right"), ("x", "y"), "side"

    def __init__(self, *, hidden=8, dies=False):
        self.hidden, self.dies = hidden, dies

    def statistics(self, site):
        return {}

    def read(self, site, statistics):
        rows = dict(np.load(site.path / "points.npz"))
        part = np.arange(len(rows["x"])) % 5
        return Split(train=rows_of(rows, part > 1), test=rows_of(rows, part == 0), validation=rows_of(rows, part == 1))

    def model(self, statistics):
        if self.dies:
            os._exit(9)
        return Network(inputs=2, hidden=(self.hidden,), outputs=2, mean=np.zeros(2), scale=np.ones(2))
"""
JOB = """
name = "points"
[task]
code = "task.py:Points"
[data]
dataset = "points"
[federation]
rounds = 6
[federation.local]
learning_rate = 0.1
batch_size = 8
[evaluation]
every = 2
[simulation]
clients = 300
cohort = 5
rows = 20
[preset.fast.federation.local]
learning_rate = 0.5
[preset.prox.federation]
algorithm = "fedprox"
options = { mu = 1.0 }
[preset.other.federation]
seed = 7
"""


def lay_out(folder: Path, job: str = JOB, *, seed: int = 0) -> Path:
    """Write code/task.py, code/job.toml and rows/points.npz; return the job file."""
    rng = np.random.default_rng(seed)
    side = rng.integers(0, 2, 500)
    x, y = rng.normal(side[:, None] * 2.0 - 1.0, 1.2, (500, 2)).T
    (folder / "rows").mkdir(exist_ok=True)
    np.savez(folder / "rows" / "points.npz", x=x, y=y, side=side)
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "task.py").write_text(TASK)
    (folder / "code" / "job.toml").write_text(job)
    return folder / "code" / "job.toml"
