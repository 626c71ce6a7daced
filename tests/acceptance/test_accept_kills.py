"""Twenty kills at random moments of one run: of control, of a site's agent, of its worker, each started again."""

from __future__ import annotations

import random
import sqlite3
import time

import psutil
import pytest

from acceptance.gated import GATED, RUN, SITES, lay_out
from acceptance.workspace import Workspace, wait_until
from archipel.cli import processes
from archipel.cli.client import Client
from archipel.cli.fleet import Fleet
from archipel.spec import LinkError

SEED = 20261123
KILLS = 20
ROUNDS = 40
LAST = f"train-{ROUNDS}"
AFTER_TRAINING = 4
"""So many of the kills come once training is over: in scoring, finishing and serving."""
LONGEST_DELAY_SECONDS = 0.3
STEADY = GATED.replace("rounds = 3", f'rounds = {ROUNDS}\nalgorithm = "scaffold"') + (
    'alone = true\ncross = true\npersonalise_epochs = 1\n[deployment]\nserve = "personalised"\n'
)
"""State at control and at the sites, and every kind of round."""
BEFORE_AND_DURING = ("check", "statistics", "initialise", "train")
Place = tuple[str, str | None, int]
"""State of the run, kind of the open round, training round."""


@pytest.mark.timeout(600)  # some forty processes are started one after another: 45 s alone, minutes on a busy machine
def test_killed_twenty_times_at_random_a_run_ends_with_the_same_bytes_and_each_update_counted_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = lay_out(workspace, STEADY)
    undisturbed = workspace.json("simulate", *RUN[1:])
    for name, value in workspace.extra.items():
        monkeypatch.setenv(name, value)  # for what the test starts again
    gates.close(LAST)
    workspace.cli(*RUN, "--detach")
    fleet = Fleet(workspace.fleet())
    with fleet.ensure_control() as client:
        chaos = Chaos(fleet, client)
        for number, victim in enumerate(chaos.victims()):
            if number == KILLS - AFTER_TRAINING:
                gates.open(LAST)
                wait_until(chaos.has_trained, "training is over")
            elif number < KILLS - AFTER_TRAINING:
                wait_until(chaos.has_moved, "the run goes on, or stands before the last gate")
            chaos.kill(number, victim)
            chaos.supervise()
        wait_until(chaos.is_finished, "the run is finished")
    workspace.cli(*RUN)  # the report
    assert workspace.report()["model_digest"] == undisturbed["model_digest"]
    (model,) = workspace.json("models", "birds")["models"]
    assert model["lineage"]["participation"] == undisturbed["participation"] == [list(SITES)] * ROUNDS
    assert workspace.report()["overall"]["federated"]["everyone"] == undisturbed["models"]["federated"]
    counted = updates_of(workspace)
    assert len(counted) == len(set(counted)), "an update was counted twice"
    training = range(3, 3 + ROUNDS)  # after check, statistics and initialise
    assert {(round_, site) for round_ in training for site in SITES} <= set(counted)


class Chaos:
    """Kills processes of a fleet, and starts again what has died, as a supervisor would."""

    def __init__(self, fleet: Fleet, client: Client) -> None:
        self._fleet = fleet
        self._client = client
        state = fleet.state
        assert state is not None
        assert state.run is not None
        self._run = state.run
        self._chance = random.Random(SEED)
        self._last: Place = ("", None, 0)
        self._told = ""

    def victims(self) -> list[str]:
        """Return whom to kill, in an order drawn from the seed: control and each agent and worker about as often."""
        kinds = ["control", *(f"{what} {site}" for site in SITES for what in ("agent", "worker"))]
        order = [kinds[number % len(kinds)] for number in range(KILLS)]
        self._chance.shuffle(order)
        return order

    def has_moved(self) -> bool:
        """Has the run gone on since the last kill, or does it stand before the last gate?"""
        place = self._place()
        if place is None or place[0] != "running" or (place == self._last and place[2] != ROUNDS):
            return False
        self._last = place
        return True

    def has_trained(self) -> bool:
        place = self._place()
        self._last = place or self._last
        return place is not None and place[1] not in BEFORE_AND_DURING

    def is_finished(self) -> bool:
        place = self._place()
        return place is not None and place[0] == "finished"

    def _place(self) -> Place | None:
        """Return where the run is; None while control is away."""
        self.supervise()
        try:
            progress = self._client.progress(self._run)
        except LinkError as error:
            self._tell(f"no answer: {error.message}")
            return None
        sites = ", ".join(f"{site.site} {site.presence} {site.status}" for site in progress.sites)
        self._tell(f"{progress.run.state} {progress.run.message}: {progress.kind} {progress.step}; {sites}")
        assert progress.run.state != "failed", progress.run.message
        return progress.run.state, progress.kind, progress.step

    def _tell(self, news: str) -> None:
        """Print what is new: shown where the test fails."""
        if news != self._told:
            self._told = news
            print(news)  # noqa: T201

    def kill(self, number: int, victim: str) -> None:
        time.sleep(self._chance.uniform(0, LONGEST_DELAY_SECONDS))  # no moment is better than another
        what, _, site = victim.partition(" ")
        role = "control" if what == "control" else f"site/{site}"
        found = processes.leaders(self._fleet.folder)[role]
        workers = list(found.children()) if what == "worker" else []
        chosen = workers[0] if workers else found
        self._tell(f"seed {SEED}, kill {number + 1}: {victim}, process {chosen.pid}")
        chosen.kill()
        psutil.wait_procs([chosen], timeout=10)
        self._last = self._place() or self._last  # it goes on from here: a task may lose its worker twice, not thrice

    def supervise(self) -> None:
        for role in self._fleet.missing():
            self._fleet.revive(role)


def updates_of(workspace: Workspace) -> list[tuple[int, str]]:
    """Return round and site of each update the control plane has counted."""
    with sqlite3.connect(workspace.fleet() / "control" / "control.db") as connection:
        question = "SELECT round, site FROM run_events WHERE site IS NOT NULL ORDER BY round, site"
        return list(connection.execute(question))
