"""What every peer's program has: the workload from a folder, and its turns.

    peer = Peer(sys.argv[1])
    peer.begin()                # waits for its turn
    ...                         # a round
    peer.end()                  # says what it cost: the CPU time of this process and of all below it, and wall time
    peer.finish(module)         # after the last round: the model's accuracy

Only torch, numpy and the standard library are needed. What libraries print goes to the log, not between the answers.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rounds.measure import Tree, adopt_orphans
from simulation.job.models import build


class Inputs:
    """The workload in a folder, as `simulation.peer` wrote it: settings, examples, whose turn it is to train what."""

    def __init__(self, folder: Path, *, mapped: bool = False) -> None:
        """Read it; `mapped`: leave the examples in the page cache, which processes share."""
        self.settings: dict[str, Any] = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        self._examples = Path(self.settings["examples"])
        self._mode = "r" if mapped else None
        self.x, self.y = self._load("x"), self._load("y")
        plans = np.load(folder / "plans.npz")
        self._rows, self._ends = plans["rows"], plans["ends"]
        self._initial = folder / "initial.npz"

    def rows(self, step: int, client: int) -> np.ndarray:
        """Return the rows of the cohort's client of that number, in the order of its batches; steps are from 1."""
        position = (step - 1) * self.settings["cohort"] + client
        start = self._ends[position - 1] if position else 0
        return self._rows[start : self._ends[position]]

    def model(self) -> nn.Module:
        """Return the model with the weights that everybody begins with."""
        module = build(self.settings["model"])
        with np.load(self._initial) as initial:
            module.load_state_dict({name: torch.from_numpy(initial[name]) for name in initial.files})
        return module

    def accuracy(self, module: nn.Module) -> float:
        """Score a model on the test rows."""
        x, y = torch.from_numpy(self._load("test_x")), torch.from_numpy(self._load("test_y"))
        module.eval()
        with torch.no_grad():
            hits = [module(part).argmax(1) == truth for part, truth in zip(x.split(1024), y.split(1024), strict=True)]
        return float(torch.cat(hits).float().mean())

    def train(self, module: nn.Module, rows: np.ndarray) -> None:
        """Train on rows in batches, as one writes it in torch."""
        module.train()
        optimizer = torch.optim.SGD(module.parameters(), lr=self.settings["rate"])
        loss = nn.CrossEntropyLoss()
        for start in range(0, len(rows), self.settings["batch"]):
            chosen = rows[start : start + self.settings["batch"]]
            optimizer.zero_grad()
            loss(module(torch.from_numpy(self.x[chosen])), torch.from_numpy(self.y[chosen])).backward()
            optimizer.step()

    def _load(self, name: str) -> np.ndarray:
        return np.load(self._examples / f"{name}.npy", mmap_mode=self._mode)


class Peer(Inputs):
    """A program that takes turns."""

    def __init__(self, folder: str, *, mapped: bool = False) -> None:
        adopt_orphans()
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._tree = Tree()
        torch.set_num_threads(1)
        super().__init__(Path(folder), mapped=mapped)

    def begin(self) -> None:
        """Wait until it is this program's turn."""
        if not sys.stdin.readline():
            raise SystemExit(1)
        self._began = self.spent()

    def end(self) -> None:
        """Say what the turn cost."""
        cpu, wall = self.spent()
        self.tell(cpu=cpu - self._began[0], wall=wall - self._began[1])

    def spent(self) -> tuple[float, float]:
        """Return CPU seconds, of this process and all below it since they began, and the time on the clock."""
        return time.process_time() + self._tree.cpu_seconds(), time.perf_counter()

    def tell(self, **figures: float) -> None:
        """Send an answer."""
        print(json.dumps(figures), file=self._answers, flush=True)

    def finish(self, module: nn.Module) -> None:
        """Say how good the model has become."""
        cpu, _ = self.spent()
        self.tell(accuracy=self.accuracy(module), cpu_total=cpu)
