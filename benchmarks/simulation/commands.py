"""`archipel simulate` as a person starts it: a process of its own, imports and reading included."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rounds.measure import ContenderError
from simulation.contenders import JOB
from simulation.costs import Cost


@dataclass(frozen=True)
class Simulated:
    """A simulation that has run."""

    cost: Cost
    answer: dict[str, Any]
    """What `--json` said."""


def simulate(presets: Sequence[str], examples: Path, executor: str, folder: Path) -> Simulated:
    """Run the job with these presets; `folder` is where the command stands, and is left with its state.

    Raises:
        ContenderError: the command failed.
    """
    folder.mkdir(parents=True)
    chosen = [word for preset in presets for word in ("--preset", preset)]
    command = [sys.executable, "-m", "archipel.cli.main", "simulate", str(JOB), *chosen, "--data", str(examples)]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, "--executor", executor, "--json"], cwd=folder, capture_output=True, check=False, env=dict(os.environ)
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ContenderError(f"archipel simulate: {done.stderr.decode()[-1500:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Simulated(cost=Cost(cpu=cpu, wall=wall), answer=json.loads(done.stdout))
