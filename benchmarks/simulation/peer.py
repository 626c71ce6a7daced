"""A peer from outside: its environment, its program as a subprocess, its answers.

with Peers(folder) as peers:
    turn = peers.start("pfl", workload, rounds)     # a Turn; ContenderError when the program ends before its time
    turn(1)                                         # Cost(cpu=…, wall=…)
    peers.accuracy("pfl")                           # after the last round
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from archipel.spec.tensors import views
from archipel.tasks.examples import epoch_batches
from environments import environment
from rounds.measure import ContenderError, Tree
from simulation.contenders import Workload
from simulation.costs import Cost, Turn

HERE = Path(__file__).resolve().parents[1]
REQUIREMENTS = {
    "pfl": ("pfl[pytorch]==0.6.0",),
    "flower": ("flwr[simulation]==1.41.0", "torch"),
    "nvflare": ("nvflare==2.9.0", "torch"),
}
PROGRAMS = {"pfl": "pfl_backend", "flower": "flower_ray", "nvflare": "nvflare_simulator"}
VERSIONS = {"pfl": "0.6.0", "flwr": "1.41.0", "nvflare": "2.9.0"}
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": str(HERE),
}
"""Flower's releases and Ray's call home unless they are told not to."""


class Peers:
    """The peers' processes; all are ended on leaving."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs: dict[str, _Program] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._programs.values():
            program.close()
        Tree().stop()

    def start(
        self, name: str, workload: Workload, rounds: int, cohort: int | None = None, processes: int | None = None
    ) -> Turn:
        """Start a peer over a workload; with `cohort` it trains only so many clients of each cohort.

        `processes` is how many it may use at once, where that is its user's to say; None: as many as clients.
        """
        folder = self._folder / name
        _write(folder, workload, rounds, cohort or workload.cohort, processes)
        python = environment(f"simulation-{name}", *REQUIREMENTS[name])
        program = _Program(name, [str(python), "-m", f"simulation.peers.{PROGRAMS[name]}", str(folder)], folder)
        self._programs[name] = program
        return program.turn

    def accuracy(self, name: str) -> float:
        """Return how good a peer's model was after its last round."""
        return float(self._programs[name].last()["accuracy"])

    def whole(self, name: str) -> Cost:
        """Return what a peer cost from its command to its last round; after `accuracy`."""
        return self._programs[name].whole


class _Program:
    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self._name = name
        self._log = folder / "log"
        self._began = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **_QUIET},
                cwd=folder,
                start_new_session=True,
                text=True,
            )
        self.whole = Cost(cpu=0, wall=0)

    def turn(self, step: int) -> Cost:
        """Let it do its next round."""
        del step
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; `_answer` says so
        answer = self._answer()
        return Cost(cpu=answer["cpu"], wall=answer["wall"])

    def last(self) -> dict[str, Any]:
        """Take its last answer."""
        answer = self._answer()
        self.whole = Cost(cpu=answer["cpu_total"], wall=time.perf_counter() - self._began)
        return answer

    def close(self) -> None:
        """End it; what it started itself is ended by its caller."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = self._log.read_text(errors="replace")[-1500:]
            raise ContenderError(f"{self._name} ended before its time:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def nothing_lost() -> Iterator[None]:
    """Say that a contender failed, and go on."""
    try:
        yield
    except (ContenderError, TimeoutError, subprocess.CalledProcessError) as error:
        print(f"LEFT OUT: {error}", flush=True)


def _write(folder: Path, workload: Workload, rounds: int, cohort: int, processes: int | None) -> None:
    """Write what a peer's program reads: settings, the cohorts' rows in the order of their batches, first weights."""
    folder.mkdir(parents=True)
    local = workload.job.federation.local
    settings = {
        "model": workload.name,
        "examples": str(workload.examples),
        "rounds": rounds,
        "cohort": cohort,
        "processes": processes,
        "clients": workload.population.count,
        "batch": local.batch_size,
        "rate": local.learning_rate,
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    plans = [plan for step in range(1, rounds + 1) for plan in workload.plans(step)[:cohort]]
    ordered = [np.concatenate([rows for _, rows in epoch_batches(len(plan.rows), plan)]) for plan in plans]
    np.savez(folder / "plans.npz", rows=np.concatenate(ordered), ends=np.cumsum([len(rows) for rows in ordered]))
    first = workload.adapter.initial(workload.job.federation.seed)
    np.savez(folder / "initial.npz", **views(first.vector, first.manifest))
