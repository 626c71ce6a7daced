"""What a replay reads, whose rows a simulation stands on, and who has its folder."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from archipel.cli import simulating
from archipel.cli.failure import Interrupted
from archipel.cli.fleet import Fleet
from archipel.cli.planes import HOME
from archipel.cli.simulating import Recorded, chosen, read_participation, simulate_job
from archipel.federated.progress import Progress as Course
from archipel.federated.progress import RoundLoss
from archipel.spec import ArchipelError, DataError, SpecError, StateError

COHORTS = [["north", "south"], ["north"]]
LINEAGE = {"datasets": {"north": "sha256:0", "south": "sha256:1"}, "participation": COHORTS}
OLDER = {"name": "birds", "lineage": {"datasets": {"west": "sha256:2"}, "participation": [["west"]]}}
FORMS = [
    ("a list", COHORTS, ()),
    ("what simulate --json printed", {"participation": COHORTS, "sites": {"north": 24}}, ()),
    ("a lineage", LINEAGE, ("north", "south")),
    ("a model", {"name": "birds", "lineage": LINEAGE}, ("north", "south")),
    (
        "what models --json printed: the newest of this name",
        {"models": [OLDER | {"name": "fish"}, {"name": "birds", "lineage": LINEAGE}, OLDER]},
        ("north", "south"),
    ),
]
FAULTS = [
    ("[[", "is not JSON"),
    ("{}", "holds no participation"),
    ('{"models": []}', "holds no participation"),
    ('{"models": [{"name": "fish"}]}', "holds no model 'birds'"),
    ('["north"]', "holds no participation"),
]


@pytest.mark.parametrize(("form", "document", "sites"), FORMS, ids=[form for form, _, _ in FORMS])
def test_participation_is_read_from(tmp_path: Path, form: str, document: Any, sites: tuple[str, ...]) -> None:
    path = tmp_path / "made.json"
    path.write_text(json.dumps(document))
    assert read_participation(path, "birds") == Recorded(cohorts=(("north", "south"), ("north",)), sites=sites), form


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_a_file_without_participation_is_refused_with_the_next_step(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "made.json"
    path.write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        read_participation(path, "birds")
    assert caught.value.hint
    with pytest.raises(ArchipelError, match="no file"):
        read_participation(tmp_path / "nowhere.json", "birds")


def test_only_the_rows_of_sites_that_were_in_the_run_count(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("north", "south", "west")}
    assert set(Recorded(cohorts=(), sites=("north", "south")).of(folders)) == {"north", "south"}
    assert Recorded(cohorts=()).of(folders) == folders, "a record that does not say leaves nobody out"
    with pytest.raises(DataError, match="no data here of east") as caught:
        Recorded(cohorts=(), sites=("east", "north")).of(folders)
    assert caught.value.hint


def test_a_site_that_the_job_names_must_have_rows_here(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("north", "south")}
    assert chosen(folders, ()) == folders
    assert set(chosen(folders, ("south",))) == {"south"}
    with pytest.raises(DataError, match=r"no data here of soth, which \[federation\] sites names") as caught:
        chosen(folders, ("north", "soth"))
    assert caught.value.hint


JOB = """
name = "birds"
[task]
code = "task.py:Birds"
[data]
dataset = "birds"
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "task.py").write_text("")
    (tmp_path / "data" / "north").mkdir(parents=True)
    return tmp_path / "job.toml", (), tmp_path / "data", None, Console(quiet=True)


def test_two_simulations_in_one_folder_do_not_sweep_each_others_blobs(words: tuple[Any, ...]) -> None:
    with (
        Fleet(HOME.resolve() / "birds" / "simulation").lock(),
        pytest.raises(StateError, match="another simulation") as caught,
    ):
        simulate_job(*words, as_json=False)
    assert caught.value.hint
    with pytest.raises(StateError, match="refused"):  # an empty task: it is the run itself that fails now
        simulate_job(*words, as_json=False)


def test_an_interrupted_simulation_says_that_the_same_command_goes_on(
    words: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulating.Simulation, "run", interrupted)
    with pytest.raises(Interrupted) as caught:
        simulate_job(*words, as_json=False)
    assert "the same command goes on" in caught.value.way_on


def test_a_simulation_says_what_a_run_over_sites_says() -> None:
    def course(phase: str, step: int, *losses: float, **excluded: str) -> Course:
        return Course(
            phase=phase,
            round=0,
            rounds_total=9,
            step=step,
            steps_total=2,
            answered=0,
            cohort=2,
            waiting=(),
            lost=(),
            losses=tuple(RoundLoss(step=n, loss=loss, sites=2) for n, loss in enumerate(losses, start=1)),
            excluded=excluded,
            paused="",
        )

    out = io.StringIO()
    lines = simulating._Lines(Console(file=out, width=100), 3)
    stages = (course("check", 0), course("train", 1, south="no rows"), course("train", 1, south="no rows"))
    for stage in (*stages, course("train", 2, 0.5, south="no rows"), course("evaluate", 2, 0.5, 0.25, south="no rows")):
        lines(stage)
    lines(course("finished", 2, 0.5, 0.25))
    assert out.getvalue().splitlines() == [
        "checking the data: 3 sites",
        "training together: 2 sites",
        "south takes no part: no rows",
        "round 1 of 2  loss 0.5000",
        "round 2 of 2  loss 0.2500",
        "scoring on held-out rows: 2 sites",
    ]
