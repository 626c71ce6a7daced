"""A run is over the rows it was given, and no others: not those of an earlier command, nor of its sites."""

from __future__ import annotations

import pytest

from acceptance.gated import GATED, RUN, SITES, Gates, lay_out
from acceptance.workspace import JOB, Workspace, interrupt, read_until

pytestmark = pytest.mark.timeout(600)
LONGER = f"{GATED}\n[preset.longer.federation]\nrounds = 4\n"


def rows_of(workspace: Workspace) -> dict[str, int]:
    return {site["name"]: site["rows"] for site in workspace.report()["sites"]}


def test_a_run_over_other_rows_has_their_sites_and_only_them(workspace: Workspace) -> None:
    workspace.job()
    workspace.birds("north")
    workspace.birds("south")
    workspace.run()
    (workspace.folder / "data").rename(workspace.folder / "earlier")
    workspace.birds("south", "at" * 20)
    workspace.birds("west")
    workspace.run()
    assert rows_of(workspace) == {"south": 40, "west": 24}
    assert [role for role in workspace.processes() if role.startswith("site/")] == ["site/south", "site/west"]
    workspace.job(JOB.replace('dataset = "birds"', 'dataset = "fowl"'))
    workspace.cli("run", "job/job.toml", "--data", "earlier")
    assert rows_of(workspace) == {"north": 24, "south": 24}


@pytest.fixture
def gates(workspace: Workspace) -> Gates:
    gates = lay_out(workspace, LONGER)
    gates.close("train-2")
    return gates


def test_an_interrupted_run_is_gone_on_with_where_it_is_over_its_own_rows_only(
    workspace: Workspace, gates: Gates
) -> None:
    running = workspace.start(*RUN)
    for site in SITES:  # who comes later than another would be taken for the next run's
        gates.await_arrival(f"train-2.{site}", running)
    said = workspace.cli(*RUN, "--preset", "longer", code=6)  # a second command does not take it for its own
    assert "with other settings or rows" in said
    interrupt(running)

    workspace.birds("north", "at" * 20)
    assert "rows have changed" in workspace.cli("resume", code=6)
    running = workspace.start(*RUN)
    read_until(running, "this is a new run")
    gates.await_arrival("train-2", running)
    interrupt(running)
    gates.open("train-2")

    workspace.cli("run", "job/job.toml", code=4)  # its preparation needs --data, which was forgotten
    elsewhere = Workspace(workspace.folder / "elsewhere")
    elsewhere.folder.mkdir()
    elsewhere.extra = workspace.extra
    said = elsewhere.cli("resume", "--state", str(workspace.fleet() / "control"))
    assert "going on with run" in said
    assert [path.name for path in (elsewhere.folder / ".archipel").iterdir()] == ["current"]  # for `archipel status`
    assert rows_of(workspace) == {"north": 40, "south": 28}
