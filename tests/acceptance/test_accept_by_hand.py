"""What is started by hand, in the foreground or not, is found by other commands: no second one, and `stop` ends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from acceptance.workspace import Workspace, read_until, wait_until
from archipel.cli import processes
from archipel.security.sealing import KEYRING, is_sealed
from archipel.site.agent import SiteFolder
from archipel.site.journal import Journal

PORTS = ("--http-port", "0", "--sites-port", "0")


def leader(folder: Path, role: str) -> psutil.Process:
    """Return the process of a role, which must be there."""
    wait_until(lambda: role in processes.leaders(folder), f"{role} runs")
    return processes.leaders(folder)[role]


def test_what_serves_in_the_foreground_is_found_by_other_commands_and_ended_by_stop(workspace: Workspace) -> None:
    workspace.birds("north")
    plane = workspace.start("up", *PORTS)
    read_until(plane, "control.serves")
    assert "-P" in leader(workspace.fleet("control"), "control").cmdline()
    assert "runs already" in workspace.cli("up", "--detach", *PORTS, code=6)

    folder = workspace.fleet("north")
    wait_until((workspace.folder / ".archipel" / "current").is_file, "later commands mean this control plane")
    token = workspace.json("invite", "north")["token"]
    serving = workspace.start("join", token, "--data", "birds=data/north", "--folder", str(folder))
    read_until(serving, "connected")
    assert "-P" in leader(folder, "site/north").cmdline()
    again = workspace.cli("join", "--detach", "--folder", str(folder), code=6)
    assert "an agent serves from" in again
    assert f"archipel stop --folder {folder}" in again

    assert "ended site/north" in workspace.cli("stop", "--folder", str(folder))
    assert serving.wait(60) == 0
    assert "in the background" in workspace.cli("join", "--detach", "--folder", str(folder))
    assert SiteFolder(folder).is_held(), "it says that it serves before it does"
    assert "ended site/north" in workspace.cli("stop", "--folder", str(folder))

    assert "ended control" in workspace.cli("stop")
    assert plane.wait(60) == 0
    for command in (plane, serving):
        command.communicate()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with a control plane in the background, for all tests that need no more of it."""
    place = Workspace(tmp_path_factory.mktemp("plane"))
    try:
        place.cli("up", "--detach", *PORTS)
        yield place
        assert "ended control" in place.cli("stop")
    finally:
        place.stop()


def test_a_site_that_has_joined_is_told_where_its_data_are_now_without_a_token(plane: Workspace) -> None:
    workspace = plane
    workspace.birds("north")
    workspace.birds("moved")
    folder = workspace.fleet("mover")
    again = ("join", "--detach", "--folder", str(folder))
    token = workspace.json("invite", "mover")["token"]
    workspace.cli("join", token, "--data", "birds=data/north", "--folder", str(folder), "--detach")
    assert "another agent" in workspace.cli(*again, "--data", "birds=data/moved", code=6)
    workspace.cli("stop", "--folder", str(folder))
    workspace.cli(*again, "--data", "birds=data/moved", "--data", "fish=data/north")
    workspace.cli("stop", "--folder", str(folder))
    workspace.cli(*again)
    workspace.cli("stop", "--folder", str(folder))
    journal = Journal(SiteFolder(folder).journal)
    data = workspace.folder / "data"
    assert journal.datasets() == {"birds": data / "moved", "fish": data / "north"}
    journal.close()
    refused = workspace.cli("join", "--folder", "nowhere", "--data", "birds=data/north", code=6)
    assert "no site has joined" in refused


def test_an_agent_that_dies_at_once_is_not_said_to_serve(plane: Workspace) -> None:
    workspace = plane
    folder = workspace.fleet("dying")
    token = workspace.json("invite", "dying")["token"]
    workspace.cli("join", token, "--folder", str(folder), "--detach")
    workspace.cli("stop", "--folder", str(folder))
    (folder / "key.pem").unlink()
    said = workspace.cli("join", "--detach", "--folder", str(folder), code=6)
    assert "site/dying ended: " in said
    assert "key.pem is missing" in said
    assert "restore it from a backup" in said


def test_a_run_over_sites_that_joined_by_hand_ends_with_a_report(plane: Workspace) -> None:
    workspace = plane
    job = workspace.job()
    for site, kinds in (("north", "at" * 12), ("south", "at" * 14)):
        workspace.birds(site, kinds)
        token = workspace.json("invite", site)["token"]
        words = ("--data", f"birds=data/{site}", "--folder", str(workspace.fleet(site)), "--detach")
        workspace.cli("join", token, *words)
    said = workspace.cli("run", str(job), "--state", str(workspace.fleet("control")))
    assert "2 sites together" in said
    assert "disclosed" in said
    [page] = (workspace.folder / ".archipel" / "reports").glob("*/report.html")
    report = json.loads(page.with_suffix(".json").read_text())
    assert {site["name"]: site["rows"] for site in report["sites"]} == {"north": 24, "south": 28}
    assert report["bytes_moved"] > 0
    assert page.parent.name in said
    kept = [path for path in (workspace.fleet("control") / "artefacts").glob("??/*") if path.is_file()]
    assert kept
    assert all(is_sealed(path.read_bytes()) for path in kept), "what lasts is sealed where nobody named a key"
    for folder in (workspace.fleet("control"), workspace.fleet("north")):
        assert (folder / KEYRING).is_file()
        assert not list(folder.glob("*.key")), "the key lies elsewhere"
    for site in ("north", "south"):
        workspace.cli("stop", "--folder", str(workspace.fleet(site)))
