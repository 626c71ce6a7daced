"""A run is over the rows it was given, and no others: not those of an earlier command, nor of its sites."""

from __future__ import annotations

import pytest

from acceptance.gated import RUN, lay_out
from acceptance.workspace import JOB, Workspace, interrupt

pytestmark = pytest.mark.timeout(600)
LONGER = f"{JOB}\n[preset.longer.federation]\nrounds = 4\n"


def rows_of(workspace: Workspace) -> dict[str, int]:
    return {site["name"]: site["rows"] for site in workspace.report()["sites"]}


def interrupt_in_round_2(workspace: Workspace) -> None:
    gates = lay_out(workspace)
    gates.close("train-2")
    running = workspace.start(*RUN)
    gates.await_arrival("train-2", running)
    interrupt(running)
    gates.open("train-2")


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


def test_an_interrupted_run_whose_rows_have_changed_is_left_for_a_new_one(workspace: Workspace) -> None:
    interrupt_in_round_2(workspace)
    workspace.birds("north", "at" * 20)
    assert "rows have changed" in workspace.cli("resume", code=6)
    said = workspace.cli(*RUN)
    assert "this is a new run" in said
    assert rows_of(workspace)["north"] == 40


def test_resume_goes_on_where_the_run_is_with_the_words_it_was_given(workspace: Workspace) -> None:
    interrupt_in_round_2(workspace)
    workspace.cli("run", "job/job.toml", code=4)  # its preparation needs --data, which was forgotten
    elsewhere = Workspace(workspace.folder / "elsewhere")
    elsewhere.folder.mkdir()
    elsewhere.extra = workspace.extra
    said = elsewhere.cli("resume", "--state", str(workspace.fleet() / "control"))
    assert "going on with run" in said
    assert [path.name for path in (elsewhere.folder / ".archipel").iterdir()] == ["current"]  # for `archipel status`
    assert set(rows_of(workspace)) == {"north", "south"}


def test_a_second_command_with_other_settings_does_not_take_the_run_for_its_own(workspace: Workspace) -> None:
    gates = lay_out(workspace, LONGER)
    gates.close("train-2")
    running = workspace.start(*RUN)
    gates.await_arrival("train-2", running)
    said = workspace.cli(*RUN, "--preset", "longer", code=6)
    assert "with other settings or rows" in said
    gates.open("train-2")
    running.communicate(timeout=240)
    assert running.returncode == 0
