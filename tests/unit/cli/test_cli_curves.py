"""Curves of simulations: what is drawn is what was measured, and says on which rows; exports read back as they were."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from archipel.cli.curves import mlflow as runs
from archipel.cli.curves import picture, tensorboard
from archipel.cli.curves.exports import Exports
from archipel.cli.curves.page import differs_in_words, render
from archipel.cli.curves.panels import Panel, panels_of
from archipel.cli.report import charts
from archipel.cli.simulating import simulate_job
from archipel.simulation.result import Result, differences, read_result
from archipel.simulation.virtual import RoundRecord
from archipel.spec import ArchipelError, MissingExtraError, SpecError, StorageFullError, encode
from archipel.spec.job import job_from
from plane import JOB, lay_out

DIGEST = "sha256:" + "ab" * 32


def record(step: int, loss: float | None, **figures: float) -> RoundRecord:
    return RoundRecord(step=step, clients=5, examples=100, steps=15, loss=loss, seconds=0.5, figures=figures or None)


def result(*history: RoundRecord, name: str = "points", **job: Any) -> Result:
    tables = {"task": {"code": "task.py:Points"}, "data": {"dataset": "points"}, "simulation": {}}
    spec = job_from({"name": name, **tables, **job})
    return Result(
        version="0.1.0",
        job=spec,
        job_digest=spec.digest,
        code=DIGEST,
        data=DIGEST,
        seed=0,
        model_digest=DIGEST,
        executor="loop",
        executor_why="it was asked for",
        processes=1,
        clients=300,
        rounds=len(history),
        examples=100 * len(history),
        loss=history[-1].loss,
        test={"accuracy": 0.75, "examples": 40.0},
        seconds=2.0,
        finished_at=1_000_000.0,
        history=history,
    )


HISTORY = (
    record(1, 0.75),
    record(2, 0.5, accuracy=0.625, examples=40.0),
    record(3, None),
    record(4, 0.25, accuracy=0.875, examples=40.0),
)


def test_a_panel_has_the_rounds_that_were_measured_and_says_on_which_rows() -> None:
    loss, accuracy = panels_of({"a": HISTORY})
    assert (loss.title, loss.up) == ("Training loss", "mean loss on the rows trained on")
    assert loss.lines == {"a": ((1, 0.75), (2, 0.5), (4, 0.25))}
    assert (accuracy.title, accuracy.up) == ("accuracy", "accuracy on validation rows")
    assert accuracy.lines == {"a": ((2, 0.625), (4, 0.875))}


def test_a_simulation_without_a_figure_is_left_out_of_its_panel() -> None:
    panels = panels_of({"a": HISTORY, "b": (record(1, 0.5), record(2, 0.25))})
    assert [list(panel.lines) for panel in panels] == [["a", "b"], ["a"]]


def test_a_page_holds_curves_figures_and_what_it_was_made_with_and_nothing_from_outside() -> None:
    page = render({"points": result(*HISTORY)})
    assert "Training loss by round" in page
    assert "accuracy by round" in page
    assert "The final model, on the test rows" in page
    assert ">0.7500<" in page
    assert "On 40 test rows" in page
    assert DIGEST in page
    assert not re.search(r"<script|(?:src|href)=", page)
    assert "No round was scored" in render({"points": result(record(1, 0.5), record(2, 0.25))})


def test_a_page_of_several_says_what_differs_and_escapes_their_names() -> None:
    one, other = result(*HISTORY), result(*HISTORY, federation={"seed": 7})
    page = render({"<one>": one, "other": other})
    assert "federation.seed = 7" in page
    assert "<one>" not in page
    assert "&lt;one&gt;" in page
    assert differences((one.job, other.job)) == ({"federation.seed": 0}, {"federation.seed": 7})
    assert differs_in_words({}) == ""


@given(st.dictionaries(st.text(max_size=9), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), max_size=10))
def test_lines_stay_inside_their_picture_and_end_where_they_end(values: dict[str, list[float]]) -> None:
    series = {name: list(enumerate(found, start=1)) for name, found in values.items()}
    drawn = charts.lines(series, title="t", across="x", up="y")
    paths = [path for path in re.findall(r'points="([^"]*)"', drawn) if not path.startswith("46,2")]
    for path in paths:
        for pair in path.split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 640
            assert 0 <= y <= 230 + 18 * len(values)
    assert (drawn == "") == (not values)


def test_a_line_of_many_rounds_is_thinned_and_keeps_its_last_point() -> None:
    drawn = charts.lines({"a": [(step, step / 5000) for step in range(1, 5001)]}, title="t", across="x", up="y")
    path = re.search(r'points="([^"]*)"', drawn)[1].split()
    assert len(path) <= 641
    assert path[-1] == "628.0,14.0"


def test_values_that_lie_near_each_other_fill_the_picture() -> None:
    drawn = charts.lines({"a": [(1, 0.90), (2, 0.95)]}, title="t", across="x", up="y")
    (_, low), (_, high) = (pair.split(",") for pair in re.search(r'points="([^"]*)"', drawn)[1].split())
    assert float(low) > 170
    assert float(high) == 14.0


def test_a_result_reads_back_and_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(encode(result(*HISTORY)))
    assert read_result(path) == result(*HISTORY)
    for body, message in ((b'{"type": "simulation/9"}', "no result of a simulation"), (b"[", "no result of a")):
        path.write_bytes(body)
        with pytest.raises(SpecError, match=message) as caught:
            read_result(path)
        assert caught.value.hint
    with pytest.raises(SpecError, match="no result at"):
        read_result(tmp_path / "nowhere.json")


# ---- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_a_picture_is_of_the_kind_its_name_says_and_leaves_nothing_else(
    tmp_path: Path, name: str, begins: bytes
) -> None:
    pytest.importorskip("matplotlib")
    (said,) = Exports(curves=tmp_path / name).make({"a": result(*HISTORY), "b": result(*HISTORY)})
    assert said == f"picture: {tmp_path / name}"
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_picture_has_a_line_for_each_simulation_and_no_state_of_the_process(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    many = {f"run {number}": ((1, 0.5), (2, number / 10)) for number in range(9)}
    picture.draw([Panel(title="t", up="u", lines=many)], tmp_path / "a.svg", title="all")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.count('<g id="line2d_') > 9
    assert "matplotlib.pyplot" not in sys.modules


def test_a_full_disk_is_named_and_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "a.png").write_bytes(b"older")

    def full(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageFullError, match="no space left"):
        list(Exports(curves=tmp_path / "a.png").make({"a": result(*HISTORY)}))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"older")]


def test_a_simulation_of_sites_has_a_history_and_a_picture_of_its_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    job = lay_out(tmp_path, JOB[: JOB.index("[simulation]")])
    for site in ("north", "south"):
        (tmp_path / "sites").mkdir(exist_ok=True)
        shutil.copytree("rows", f"sites/{site}")
    wanted = Exports(curves=Path("sites.png"))
    simulate_job(job, (), Path("sites"), None, Console(stderr=True), exports=wanted, as_json=True)
    history = json.loads(capsys.readouterr().out)["history"]
    assert [(one["step"], one["sites"]) for one in history] == [(step, 2) for step in range(1, 7)]
    assert all(one["loss"] > 0 for one in history)
    assert Path("sites.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SpecError, match=r"no .simulation.") as caught:
        simulate_job(
            job, (), Path("sites"), None, Console(), exports=Exports(tensorboard=Path("events")), as_json=False
        )
    assert "--curves" in caught.value.hint


# ---- other tools ---------------------------------------------------------------------------------------------------


def test_events_read_back_by_tensorboard_and_are_written_over(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    wanted = Exports(tensorboard=tmp_path)
    for _ in range(2):
        (said,) = wanted.make({"job.toml:fast": result(*HISTORY)})
    folder = tmp_path / "job.toml-fast"
    assert said.startswith(f"events: {folder}")
    assert len(list(folder.iterdir())) == 1
    read = EventAccumulator(str(folder))
    read.Reload()
    assert set(read.Tags()["scalars"]) == {
        "training/loss", "validation/accuracy", "speed/examples_per_second", "test/accuracy",
    }  # fmt: skip
    loss = [(event.step, event.value, event.wall_time) for event in read.Scalars("training/loss")]
    assert loss == [(1, 0.75, 999_998.5), (2, 0.5, 999_999.0), (4, 0.25, 1_000_000.0)]
    assert [(event.step, event.value) for event in read.Scalars("validation/accuracy")] == [(2, 0.625), (4, 0.875)]
    assert [(event.step, event.value) for event in read.Scalars("test/accuracy")] == [(4, 0.75)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's own use of SQLAlchemy and others
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_runs_read_back_by_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    (said,) = Exports(mlflow=uri).make({"points:fast": result(*HISTORY, federation={"rounds": 4})})
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(said.rpartition(" ")[2])
    assert client.get_experiment(run.info.experiment_id).name == "points"
    assert (run.info.run_name, run.info.status) == ("points:fast", "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (999_998_000, 1_000_000_000)
    assert run.data.params["federation.rounds"] == "4"
    assert run.data.tags["archipel.model_digest"] == DIGEST
    history = client.get_metric_history(run.info.run_id, "training/loss")
    assert sorted((one.step, one.value) for one in history) == [(1, 0.75), (2, 0.5), (4, 0.25)]
    assert run.data.metrics["validation/accuracy"] == 0.875
    assert run.data.metrics["test/accuracy"] == 0.75
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


REFUSED: list[tuple[str, Exports, type[ArchipelError], str]] = [
    ("a picture of no kind", Exports(curves=Path("a.gif")), SpecError, "a.gif"),
    ("a picture nowhere", Exports(curves=Path("nowhere/a.png")), SpecError, "no folder nowhere"),
    ("MLflow in a folder", Exports(mlflow="mlruns"), SpecError, "'mlruns'"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_what_could_not_be_made_is_refused_before_the_work(
    case: tuple[str, Exports, type[ArchipelError], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, wanted, kind, message = case
    with pytest.raises(kind, match=re.escape(message)) as caught:
        wanted.require()
    assert caught.value.hint


MISSING: list[tuple[str, Callable[[], None]]] = [
    ("curves", lambda: picture.require_picture(Path("a.png"))),
    ("tensorboard", tensorboard.require_tensorboard),
    ("mlflow", lambda: runs.require_mlflow("sqlite:///a.db")),
]


@pytest.mark.parametrize("case", MISSING, ids=[case[0] for case in MISSING])
def test_a_library_that_is_missing_is_named_with_its_extra(
    case: tuple[str, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    extra, require = case
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError) as caught:
        require()
    assert f"archipel[{extra}]" in caught.value.hint
