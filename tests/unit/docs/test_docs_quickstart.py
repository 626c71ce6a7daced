"""The quickstart's own task runs as it is written there, in the number of lines it promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs/quickstart.md"


def files() -> dict[str, str]:
    """Name → content of each file the page shows, by the name that begins the paragraph before it."""
    text = PAGE.read_text(encoding="utf-8")
    return dict(
        re.findall(r"^`([\w.]+)` [^`]*(?:`[^`]+`[^`]*)*?```\w+\n(.*?)```", text, flags=re.MULTILINE | re.DOTALL)
    )


def commands() -> list[list[str]]:
    """Commands of the second half of the page, `archipel` and `python` as those of this environment."""
    part = PAGE.read_text(encoding="utf-8").partition("## Your own task")[2].partition("## Where to go on")[0]
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", part, flags=re.DOTALL)).splitlines()
    return [line.split() for line in lines if line]


def test_a_task_of_ones_own_takes_at_most_30_lines() -> None:
    lines = [line for line in files()["task.py"].splitlines() if line.strip()]
    assert len(lines) <= 30


@pytest.mark.torch
@pytest.mark.timeout(900)  # two runs with PyTorch, also on a crowded machine
def test_the_task_of_the_quickstart_is_trained_by_the_commands_of_the_quickstart(tmp_path: Path) -> None:
    shown = files()
    assert set(shown) == {"make_rows.py", "task.py", "job.toml"}
    for name, content in shown.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    prepare, simulate, run = commands()
    assert prepare[0] == "python"
    subprocess.run([sys.executable, *prepare[1:]], cwd=tmp_path, check=True)
    simulated = json.loads(answer_of(tmp_path, [*simulate, "--json"]))
    try:
        answer_of(tmp_path, run)
    finally:
        answer_of(tmp_path, ["archipel", "stop", "--all"])
    live = json.loads((tmp_path / ".archipel/doses/report.json").read_text(encoding="utf-8"))
    assert simulated["model_digest"] == live["model_digest"]
    overall = live["overall"]
    assert overall["federated"]["everyone"]["accuracy"] > 0.9
    assert overall["federated"]["everyone"]["accuracy"] > overall["alone"]["everyone"]["accuracy"]


def answer_of(folder: Path, command: list[str]) -> str:
    """What an `archipel` command prints in `folder`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ARCHIPEL_")}
    words = [sys.executable, "-m", "archipel.cli.main", *command[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
