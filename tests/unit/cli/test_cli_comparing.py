"""`archipel compare`: what is laid side by side, what is computed once only, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from archipel.cli import populating
from archipel.cli.comparing import compare_simulations
from archipel.cli.curves.exports import Exports
from archipel.cli.failure import Interrupted
from archipel.cli.simulating import simulate_job
from archipel.spec import ArchipelError, DataError, SpecError, UnknownNameError
from plane import JOB, lay_out

PAGE = Path(".archipel/compared/report.html")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lay_out(tmp_path)


def _compare(*words: str, data: Path | None = Path("rows"), **options: Exports) -> str:
    console = Console(record=True, width=200)
    compare_simulations(words, data, console, as_json=False, **options)
    return console.export_text()


def _simulate(job: Path, *presets: str, data: Path = Path("rows")) -> None:
    simulate_job(job, presets, data, None, Console(quiet=True), as_json=False)


def test_jobs_presets_and_a_finished_simulation_are_laid_side_by_side(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _simulate(job, "prox")
    words = (str(job), f"{job}:fast", ".archipel/points/simulation")
    said = _compare(*words)
    assert "points:fast: federation.algorithm = fedavg, federation.local.learning_rate = 0.5" in said
    assert ".archipel/points/simulation: federation.algorithm = fedprox" in said
    assert "100 test rows of data sha256:" in said
    assert "seed 0 for all" in said
    assert "code differs" not in said
    page = PAGE.read_text()
    assert page.count("<polyline") >= 3 * 2 * 3  # a line and its sample in the legend, for each, in each picture
    capsys.readouterr()
    compare_simulations(words, Path("rows"), Console(stderr=True), as_json=True)
    captured = capsys.readouterr()
    assert "points:fast: computed before" in captured.err
    told = json.loads(captured.out)
    assert (told["type"], told["seed"], len(told["simulations"])) == ("simulations/1", 0, 3)
    assert told["simulations"][1]["differs"]["federation.local.learning_rate"] == 0.5
    finished = json.loads(Path(".archipel/points/simulation/result.json").read_bytes())
    assert told["simulations"][2]["result"] == finished
    assert told["data"] == finished["data"]


def test_other_seeds_are_said(job: Path) -> None:
    assert "different seeds" in _compare(str(job), f"{job}:other")


def test_a_job_whose_code_changed_is_computed_again(job: Path) -> None:
    _compare(str(job))
    assert "computed before" in _compare(str(job))
    task = job.parent / "task.py"
    task.write_text(task.read_text() + "\n")
    assert "computed before" not in _compare(str(job))


def test_an_interrupted_comparison_goes_on_after_what_is_finished(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0

    def check() -> None:
        nonlocal seen
        seen += 1
        if seen == 6 + 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(populating, "check", check)
    with pytest.raises(Interrupted) as stopped:
        _compare(str(job), f"{job}:fast")
    assert stopped.value.way_on == "the same command goes on after round 3"
    said = _compare(str(job), f"{job}:fast")
    assert "points: computed before" in said
    assert "goes on after round 3" in said


def test_simulations_of_other_data_are_refused_by_name(job: Path, tmp_path: Path) -> None:
    _simulate(job)
    (tmp_path / "more").mkdir()
    lay_out(tmp_path / "more", seed=1)
    with pytest.raises(DataError, match=r"not of the same data: points: sha256:.*; points:fast: sha256:") as caught:
        _compare(".archipel/points/simulation/result.json", f"{job}:fast", data=tmp_path / "more" / "rows")
    assert "same --data" in caught.value.hint


def test_simulations_with_other_test_rows_are_refused_by_name(job: Path, tmp_path: Path) -> None:
    _simulate(job)
    other = tmp_path / "other"
    other.mkdir()
    there = lay_out(other, JOB.replace('name = "points"', 'name = "halved"'))
    task = there.parent / "task.py"
    task.write_text(task.read_text().replace("% 5", "% 10"))
    with pytest.raises(DataError, match="points: 100; halved: 50"):
        _compare(".archipel/points/simulation", str(there))


REFUSED: list[tuple[str, tuple[str, ...], str | None, type[ArchipelError], str]] = [
    ("nothing", (), "rows", SpecError, "nothing is named"),
    ("twice", ("code/job.toml", "code/job.toml"), "rows", SpecError, "code/job.toml is named twice"),
    ("an unknown preset", ("code/job.toml:fats",), "rows", UnknownNameError, "'fats'"),
    ("no such result", ("nowhere",), "rows", SpecError, "no result at nowhere"),
    ("no such job", ("nowhere.toml",), "rows", SpecError, "no job file"),
    ("no result", ("code/task.py",), "rows", SpecError, "is no result of a simulation"),
    ("no data", ("code/job.toml",), None, DataError, "needs --data"),
    ("no such data", ("code/job.toml",), "nowhere", DataError, "no data set at"),
    ("no population", ("code/sites.toml",), "rows", SpecError, "nothing of virtual clients"),
]


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_compared_is_refused_with_the_next_step(
    case: tuple[str, tuple[str, ...], str | None, type[ArchipelError], str],
) -> None:
    _, words, data, kind, message = case
    Path("code/sites.toml").write_text(JOB[: JOB.index("[simulation]")])
    with pytest.raises(kind, match=message) as caught:
        _compare(*words, data=None if data is None else Path(data))
    assert caught.value.hint
