"""With a quorum a run goes on without a site that stands still or is gone; a replay of who took part gives its bytes.

east    stands still (SIGSTOP) while the data are checked, and is left out of the run
north   stands still in round 2, and is back (SIGCONT) in round 4 with an answer that is late
south   is killed in round 6, and started again in round 8
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from acceptance.gated import GATED, RUN, Gates, lay_out
from acceptance.workspace import Workspace, wait_until
from archipel.cli import processes
from archipel.cli.client import Client
from archipel.cli.fleet import Fleet
from archipel.spec.views import RunProgress

SITES = ("east", "north", "south", "west")
ROUNDS = 8
FEDERATION = f"""rounds = {ROUNDS}
algorithm = "scaffold"
absent = "quorum"
quorum = 0.5
min_sites = 2"""
JOB = GATED.replace("rounds = 3", FEDERATION)
EVERYBODY = ["north", "south", "west"]
UNABLE = {2: "north", 3: "north", 6: "south", 7: "south"}
"""Training round → who could not take part."""
BACK = {4: "north", 8: "south"}
TRAINING_STARTS = 3
"""Number of the first training round among all rounds: after check, statistics and initialise."""


class Stage:
    """The fleet under test, its run, and what is known of both."""

    def __init__(self, workspace: Workspace, gates: Gates, client: Client) -> None:
        self.fleet = Fleet(workspace.fleet())
        self.gates = gates
        self._client = client
        assert self.fleet.state is not None
        assert self.fleet.state.run is not None
        self._run = self.fleet.state.run

    def agent(self, site: str) -> psutil.Process:
        return processes.leaders(self.fleet.folder)[f"site/{site}"]

    def await_progress(self, holds: Callable[[RunProgress], bool], what: str) -> None:
        wait_until(lambda: holds(self._client.progress(self._run)), what)

    def hold(self, name: str, *sites: str) -> None:
        for site in sites:
            self.gates.close(f"{name}.{site}")

    def await_all(self, name: str, *sites: str) -> None:
        for site in sites:
            self.gates.await_arrival(f"{name}.{site}")

    def let_go(self, name: str, *sites: str) -> None:
        for site in sites:
            self.gates.open(f"{name}.{site}")


@contextmanager
def on_stage(workspace: Workspace) -> Iterator[Stage]:
    """Start the run over four sites, with its first gates closed: nobody starts again what dies."""
    gates = lay_out(workspace, JOB, SITES)
    for name in ("check-0.east", "train-2.north", "train-4.south", "train-4.west"):
        gates.close(name)
    workspace.cli(*RUN, "--detach")
    with Fleet(workspace.fleet()).ensure_control() as client:
        yield Stage(workspace, gates, client)


def test_a_run_by_quorum_goes_on_without_a_site_and_its_replay_gives_the_same_bytes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_stage(workspace) as stage:
        for name, value in workspace.extra.items():
            monkeypatch.setenv(name, value)  # for the site the test starts again
        leave_out_east(stage)
        stop_north_for_two_rounds(stage)
        kill_south_for_two_rounds(stage)
        stage.await_progress(lambda progress: progress.run.state == "finished", "the run is finished")
    workspace.cli(*RUN)  # the report
    made = workspace.json("models", "birds")
    lineage = made["models"][0]["lineage"]
    assert list(lineage["datasets"]) == EVERYBODY
    took_part = dict(enumerate(lineage["participation"], 1))
    assert len(took_part) == ROUNDS
    assert not any(site in took_part[step] for step, site in UNABLE.items())
    assert all(site in took_part[step] for step, site in BACK.items())
    assert counted(workspace) == [(step, site) for step, cohort in took_part.items() for site in cohort]
    (workspace.folder / "made.json").write_text(json.dumps(made))
    replayed = workspace.json("simulate", *RUN[1:], "--participation", "made.json")
    assert replayed["model_digest"] == workspace.report()["model_digest"]
    everybody = workspace.json("simulate", *RUN[1:])
    assert everybody["model_digest"] != replayed["model_digest"], "who took part makes no difference"


def leave_out_east(stage: Stage) -> None:
    stage.await_all("check-0", "east")
    stage.agent("east").suspend()
    stage.await_all("train-2", "north")  # the run went on, and all others have trained once
    stage.let_go("check-0", "east")
    stage.agent("east").resume()


def stop_north_for_two_rounds(stage: Stage) -> None:
    stage.agent("north").suspend()
    stage.await_all("train-4", "south", "west")
    stage.hold("train-4", "north")
    stage.let_go("train-2", "north")  # its worker ends round 2 and hands the answer to the agent that stands still
    stage.agent("north").resume()
    stage.await_all("train-4", "north")
    stage.hold("train-6", "south")
    stage.hold("train-8", *EVERYBODY)
    stage.let_go("train-4", *EVERYBODY)


def kill_south_for_two_rounds(stage: Stage) -> None:
    stage.await_all("train-6", "south")
    stage.agent("south").kill()
    stage.await_all("train-8", "north", "west")
    stage.let_go("train-6", "south")
    stage.fleet.revive("site/south")
    stage.await_all("train-8", "south")
    stage.let_go("train-8", *EVERYBODY)


def counted(workspace: Workspace) -> list[tuple[int, str]]:
    """Return training round and site of each update that control counted."""
    with sqlite3.connect(workspace.fleet() / "control" / "control.db") as connection:
        question = "SELECT round, site FROM run_events WHERE site IS NOT NULL ORDER BY round, site"
        rows = [(round_ - TRAINING_STARTS + 1, site) for round_, site in connection.execute(question)]
    return [(step, site) for step, site in rows if 1 <= step <= ROUNDS]
