"""The small birds job, waiting for the test wherever the test wants it to: see gates/.

gates = lay_out(workspace)
gates.close("train-2")                       # each site stops before its work of round 2
running = workspace.start(*RUN)
gates.await_arrival("train-2", running)      # the run is there, and stays there
gates.open("train-2")
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from acceptance.workspace import JOB, Workspace, wait_until

SITES = ("north", "south")
RUN = ("run", "job/job.toml", "--data", "data")
ROUNDS = 3

GATED = (
    JOB.replace('dataset = "birds"\n', 'dataset = "birds"\nprepare = "prepare.py:prepare"\n')
    + """
[evaluation]
reference = "reference.py:reference"
"""
)
PREPARE = """
import shutil
import gate

def prepare(target, data):
    gate.come_to("prepare")
    for site in sorted(data.iterdir()):
        shutil.copytree(site, target / site.name)
"""
REFERENCE = """
import gate

def reference(job, data):
    gate.come_to("reference")
    return {"everyone": {"accuracy": 0.5}, "own": {"accuracy": 0.5}, "sites": {}}
"""


class Gates:
    """The gates of one workspace. A name without a site ("train-2", "join") is that gate of every site."""

    def __init__(self, folder: Path, sites: tuple[str, ...]) -> None:
        self._folder = folder
        self._sites = sites
        folder.mkdir()

    def close(self, name: str) -> None:
        for path in self._files(name, "closed"):
            path.touch()

    def open(self, name: str) -> None:
        for path in self._files(name, "closed"):
            path.unlink()

    def await_arrival(self, name: str, running: subprocess.Popen[str] | None = None) -> None:
        """Wait until something stands before the gate; `running` must not end before."""

        def is_there() -> bool:
            assert running is None or running.poll() is None, f"it ended:\n{running.communicate()[0]}"
            return any(path.exists() for path in self._files(name, "reached"))

        wait_until(is_there, f"{name} is reached")
        for path in self._files(name, "reached"):
            path.unlink(missing_ok=True)

    def _files(self, name: str, state: str) -> list[Path]:
        everyone = name == "join" or ("-" in name and "." not in name)
        names = [f"{name}.{site}" for site in self._sites] if everyone else [name]
        return [self._folder / f"{each}.{state}" for each in names]


def lay_out(workspace: Workspace, toml: str = GATED, sites: tuple[str, ...] = SITES) -> Gates:
    """Write the gated job and its sites' data; every gate is open."""
    folder = workspace.job(toml).parent
    (folder / "prepare.py").write_text(PREPARE)
    (folder / "reference.py").write_text(REFERENCE)
    for number, site in enumerate(sites):
        workspace.birds(site, "at" * (12 + 2 * number))
    gates = workspace.folder / "gates"
    paths = [str(Path(__file__).parent / "gates"), *filter(None, [os.environ.get("PYTHONPATH")])]
    workspace.extra = {"PYTHONPATH": os.pathsep.join(paths), "ARCHIPEL_GATES": str(gates)}
    return Gates(gates, sites)
