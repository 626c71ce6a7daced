"""Ctrl-C, or a kill, at any moment leaves a state from which the same command goes on to the same bytes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from acceptance.workspace import ISLANDS, Workspace, interrupt, read_until, wait_until
from archipel.cli import processes
from archipel.cli.fleet import Fleet

MOMENTS = (
    "preparing one folder",
    "round 12 of 40",
    "waiting for the pooled",
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the model of a run that nothing happens to, by the simulation."""
    return Workspace(tmp_path_factory.mktemp("undisturbed")).json("simulate", str(ISLANDS))["model_digest"]


def test_ctrl_c_at_every_stage_of_one_run_and_the_same_command_goes_on_to_the_same_bytes(
    workspace: Workspace, undisturbed: str
) -> None:
    runs = set()
    for moment in MOMENTS:
        running = workspace.start("run", str(ISLANDS))
        read_until(running, moment)
        code, said = interrupt(running)
        assert code == 130, said
        assert "archipel resume`, goes on" in said
        assert workspace.processes() == [], f"after Ctrl-C at {moment!r}"
        state = Fleet(workspace.fleet("islands")).state
        assert state is not None
        runs |= {state.run} - {None}
    said = workspace.cli("run", str(ISLANDS))
    assert f"going on with run {runs.pop()}" in said
    assert runs == set(), "an interrupted run was not gone on with"
    assert workspace.report("islands")["model_digest"] == undisturbed


def test_resume_goes_on_after_the_command_and_all_its_processes_were_killed(
    workspace: Workspace, undisturbed: str
) -> None:
    running = workspace.start("run", str(ISLANDS))
    read_until(running, "round 5 of 40")
    for _, process in processes.members(workspace.fleet("islands")):
        process.kill()
    interrupt(running, signal.SIGKILL)
    assert "going on with run" in workspace.cli("resume")
    assert workspace.report("islands")["model_digest"] == undisturbed
    assert "there is no unfinished run" in workspace.cli("resume", code=6)


def test_a_site_and_control_killed_under_a_watching_run_are_started_again(
    workspace: Workspace, undisturbed: str
) -> None:
    running = workspace.start("run", str(ISLANDS))
    said = read_until(running, "round 3 of 40")
    processes.leaders(workspace.fleet("islands"))["site/dream"].kill()
    said += read_until(running, "site/dream died; starting it again")
    processes.leaders(workspace.fleet("islands"))["control"].kill()
    said += read_until(running, "control died; starting it again")
    rest, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said + rest
    assert workspace.report("islands")["model_digest"] == undisturbed


def test_a_second_command_beside_the_first_watches_the_same_run(workspace: Workspace) -> None:
    workspace.job()
    for site in ("north", "south"):
        workspace.birds(site)
    job = str(workspace.folder / "job" / "job.toml")
    first = workspace.start("run", job, "--data", "data")
    wait_until(lambda: _run_of(workspace) is not None, "the first command's run is there")
    os.kill(first.pid, signal.SIGSTOP)  # it holds the fleet, and stands still
    try:
        assert "another command leads this run" in workspace.cli("run", job, "--data", "data")
    finally:
        os.kill(first.pid, signal.SIGCONT)
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 0, said


def test_a_run_stopped_by_name_is_resumed_by_name(workspace: Workspace) -> None:
    running = workspace.start("run", str(ISLANDS))
    read_until(running, "round 2 of 40")
    run = _run_of(workspace, "islands")
    assert run is not None
    assert f"run {run}: stopped" in workspace.cli("stop", run)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 1, said
    assert f"archipel resume {run}" in said
    assert "going on with run" in workspace.cli("resume", run)
    assert workspace.report("islands")["run"] == run


def test_stop_in_another_terminal_ends_a_run_under_way_and_the_command_that_leads_it(workspace: Workspace) -> None:
    running = workspace.start("run", str(ISLANDS))
    read_until(running, "round 2 of 40")
    assert "ended control" in workspace.cli("stop")
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 6, said
    assert "told to stop by another command" in said
    assert workspace.processes() == []


def test_a_folder_of_another_sites_processes_is_not_touched_by_stop(workspace: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    kept = processes.start(other, "control", ["-c", "import signal; signal.pause()"], other / "log")
    try:
        assert "nothing was running" in workspace.cli("stop", "--all")
        assert kept.is_running()
    finally:
        processes.stop(other)


def _run_of(workspace: Workspace, name: str = "birds") -> str | None:
    state = Fleet(workspace.fleet(name)).state
    return None if state is None else state.run
