"""Ctrl-C, or a kill, at any moment leaves a state from which the same command goes on to the same bytes.

The job waits for the test wherever it is to be interrupted (gated.py), so every moment is certain.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from acceptance.gated import RUN, Gates, lay_out
from acceptance.workspace import PATIENCE_SECONDS, Workspace, interrupt, read_until
from archipel.cli import processes
from archipel.cli.fleet import Fleet

pytestmark = pytest.mark.timeout(600)  # fleets are started one after another: seconds alone, minutes on a busy machine
MOMENTS = (
    ("prepare", signal.SIGINT, 130, RUN),
    ("join", signal.SIGTERM, 143, ("resume",)),
    ("train-2", signal.SIGINT, 130, RUN),
    ("reference", signal.SIGINT, 130, ("resume",)),
)
"""Where it is interrupted, by what, the exit code, and the command that has brought it there."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the model of a run that nothing happens to, by the simulation."""
    place = Workspace(tmp_path_factory.mktemp("undisturbed"))
    lay_out(place)
    return place.json("simulate", *RUN[1:])["model_digest"]


@pytest.fixture
def gates(workspace: Workspace) -> Gates:
    return lay_out(workspace)


def start_up_to(workspace: Workspace, gates: Gates, name: str, words: tuple[str, ...] = RUN) -> subprocess.Popen[str]:
    """Start the run, or go on with it, and return once it stands before a gate."""
    gates.close(name)
    running = workspace.start(*words)
    gates.await_arrival(name, running)
    return running


def test_interrupted_at_every_stage_the_same_command_or_resume_goes_on_to_the_same_bytes(
    workspace: Workspace, gates: Gates, undisturbed: str
) -> None:
    runs = set()
    for moment, number, expected, words in MOMENTS:
        running = start_up_to(workspace, gates, moment, words)
        code, said = interrupt(running, number)
        assert code == expected, said
        assert "archipel resume`, goes on" in said
        assert workspace.processes() == [], f"after signal {number} at {moment!r}"
        runs |= {run_of(workspace)} - {None}
        gates.open(moment)
    said = workspace.cli(*RUN)
    assert f"going on with run {runs.pop()}" in said
    assert runs == set(), "an interrupted run was not gone on with"
    assert workspace.report()["model_digest"] == undisturbed


def test_a_second_ctrl_c_kills_what_does_not_end_and_leaves_no_process(workspace: Workspace, gates: Gates) -> None:
    running = start_up_to(workspace, gates, "train-2")
    processes.leaders(workspace.fleet())["site/north"].suspend()  # it will not hear the request to end
    running.send_signal(signal.SIGINT)
    read_until(running, "Ctrl-C again: at once")
    code, said = interrupt(running)
    assert code == 130, said
    assert "nothing is lost" in said
    assert workspace.processes() == []


def test_resume_goes_on_after_the_command_and_all_its_processes_were_killed(
    workspace: Workspace, gates: Gates, undisturbed: str
) -> None:
    running = start_up_to(workspace, gates, "train-2")
    interrupt(running, signal.SIGKILL)
    for _, process in processes.members(workspace.fleet()):
        process.kill()
    gates.open("train-2")
    assert "going on with run" in workspace.cli("resume")
    assert workspace.report()["model_digest"] == undisturbed
    workspace.cli("stop")
    assert "no run is unfinished; 2 sites serve again" in workspace.cli("resume")
    assert {"control", "site/north", "site/south"} <= set(workspace.processes())


def test_a_site_and_control_killed_under_a_run_are_started_again_and_a_second_command_watches_the_same_run(
    workspace: Workspace, gates: Gates, undisturbed: str
) -> None:
    first = start_up_to(workspace, gates, "train-2")
    second = workspace.start(*RUN)
    watched = read_until(second, "another command leads this run")
    processes.leaders(workspace.fleet())["site/north"].kill()
    said = read_until(first, "site/north died; starting it again")
    processes.leaders(workspace.fleet())["control"].kill()
    said += read_until(first, "control died; starting it again")
    gates.open("train-2")
    for running in (first, second):
        rest, _ = running.communicate(timeout=PATIENCE_SECONDS)
        assert running.returncode == 0, said + watched + rest
    assert "finished; the report is in" in rest
    assert workspace.report()["run"] in watched
    assert workspace.report()["model_digest"] == undisturbed


def test_a_run_stopped_by_name_is_resumed_by_name_and_stop_ends_it_with_the_command_that_leads_it(
    workspace: Workspace, gates: Gates, undisturbed: str
) -> None:
    running = start_up_to(workspace, gates, "train-2")
    run = run_of(workspace)
    assert run is not None
    assert f"run {run}: stopped" in workspace.cli("stop", run)
    said, _ = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 1, said
    assert f"archipel resume {run}" in said
    running = workspace.start("resume", run)
    read_until(running, f"going on with run {run}")
    read_until(running, "training together")
    assert "ended control" in workspace.cli("stop")
    said, _ = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 6, said
    assert "told to stop by another command" in said
    assert workspace.processes() == []
    gates.open("train-2")
    assert "going on with run" in workspace.cli("resume", run)
    assert workspace.report()["run"] == run
    assert workspace.report()["model_digest"] == undisturbed


def test_a_control_plane_in_the_foreground_ends_with_the_command_that_is_told_to(workspace: Workspace) -> None:
    running = workspace.start("up", "--http-port", "0", "--sites-port", "0")
    read_until(running, "control.serves")
    code, said = interrupt(running, signal.SIGTERM)  # returns once nobody holds its output, the control plane included
    assert code == 143, said
    assert "interrupted: " in said


def test_a_folder_of_another_sites_processes_is_not_touched_by_stop(workspace: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    kept = processes.start(other, "control", ["-c", "import signal; signal.pause()"], other / "log")
    try:
        assert "nothing was running" in workspace.cli("stop", "--all")
        assert kept.is_running()
    finally:
        processes.stop(other)


def run_of(workspace: Workspace) -> str | None:
    state = Fleet(workspace.fleet()).state
    return None if state is None else state.run
