"""A folder in which commands are given as people give them, and a small job whose parts a test may replace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from archipel.cli import processes

ROOT = Path(__file__).parents[2]
ISLANDS = ROOT / "examples" / "islands" / "job.toml"

PATIENCE_SECONDS = 180
"""Longest wait for something that must happen; a test that fails takes this long, one that passes does not."""
JOB = """
name = "birds"
[task]
code = "task.py:Birds"
[data]
dataset = "birds"
[data.contract]
label = "kind"
min_rows = 4
max_quarantined = 0.2
[data.contract.columns]
kind = { kind = "category", values = ["auk", "tern"] }
weight = { kind = "number" }
wing = { kind = "number" }
note = { kind = "text", required = false }
[federation]
rounds = 3
seed = 11
[federation.local]
learning_rate = 0.2
batch_size = 8
"""
TASK = """
from archipel.tasks.numpy import NumpyTask, Split
from archipel.tasks.numpy.task import rows_of


class Birds(NumpyTask):
    classes = ("auk", "tern")
    features = ("weight", "wing")
    label = "kind"

    def read(self, site, statistics):
        samples = self.samples(site)
        held_out = site.row_ids % 4 == 0
        return Split(train=rows_of(samples, ~held_out), test=rows_of(samples, held_out))
"""


class Workspace:
    """A folder in which commands are given, and a small job whose parts a test may replace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.extra: dict[str, str] = {}

    # ---- commands --------------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        here = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIPEL_")}
        here["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{here['PATH']}"
        return {**here, "COLUMNS": "120", **self.extra}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Give a command and do not wait for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "archipel.cli.main", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )

    def cli(self, *words: str, code: int = 0) -> str:
        """Give a command, wait for it and return all it said."""
        return "".join(self._give(words, code))

    def _give(self, words: tuple[str, ...], code: int) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "archipel.cli.main", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{words} ended with {done.returncode}:\n{said}\n{self.logs()}"
        assert "Traceback" not in said
        return done.stdout, done.stderr

    def json(self, *words: str) -> Any:
        """Give a reading command with --json and return its answer."""
        return json.loads(self._give((*words, "--json"), 0)[0])

    def paste(self, line: str) -> str:
        """Give a line to a shell, as it was printed."""
        done = subprocess.run(
            line, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout

    # ---- what is there ---------------------------------------------------------------------------------------

    def fleet(self, name: str = "birds") -> Path:
        return self.folder / ".archipel" / name

    def report(self, name: str = "birds") -> Any:
        return json.loads((self.fleet(name) / "report.json").read_text())

    def logs(self, lines: int = 8) -> str:
        """Return the end of every log, for the message of a test that fails."""
        parts = []
        for path in sorted(self.folder.rglob("logs/*.log")):
            end = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append(f"--- {path.name}\n" + "\n".join(end))
        return "\n".join(parts)

    def processes(self) -> list[str]:
        """Return the roles of all live processes of all fleets here."""
        fleets = [path.parent for path in (self.folder / ".archipel").glob("*/fleet.json")]
        return sorted(role for fleet in fleets for role, _ in processes.members(fleet))

    # ---- the small job ---------------------------------------------------------------------------------------

    def job(self, toml: str = JOB, task: str = TASK) -> Path:
        folder = self.folder / "job"
        folder.mkdir(exist_ok=True)
        (folder / "task.py").write_text(textwrap.dedent(task))
        (folder / "job.toml").write_text(textwrap.dedent(toml))
        return folder / "job.toml"

    def birds(self, site: str, kinds: str = "at" * 12, extra: str = "") -> None:
        """Write a site's file: one row a letter, `a` an auk, `t` a tern; `extra` are raw lines."""
        folder = self.folder / "data" / site
        folder.mkdir(parents=True, exist_ok=True)
        rows = ["kind,weight,wing,note"]
        for number, letter in enumerate(kinds):
            kind, weight = ("auk", 600) if letter == "a" else ("tern", 110)
            rows.append(f"{kind},{weight + number % 7},{20 + number % 5},")
        (folder / "birds.csv").write_text("\n".join(rows) + f"\n{extra}")

    def run(self, *words: str, code: int = 0) -> str:
        """Run the small job over the data that were written."""
        return self.cli("run", str(self.folder / "job" / "job.toml"), "--data", "data", *words, code=code)

    def stop(self) -> None:
        for path in (self.folder / ".archipel").glob("*"):
            if path.is_dir():
                processes.stop(path)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read what a command says until a line holds `words`."""
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if words in line:
            return "".join(said)
    raise AssertionError(f"never said {words!r}:\n{''.join(said)}")


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, str]:
    """Send a signal and return the exit code and what was still said."""
    process.send_signal(number)
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, said


def wait_until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, f"{what}: not so after {PATIENCE_SECONDS} s"
        time.sleep(0.02)
