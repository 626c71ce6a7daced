"""`archipel simulate` of a job with virtual clients: what it prints, what it leaves, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from archipel.cli import populating
from archipel.cli.failure import Interrupted
from archipel.cli.simulating import simulate_job
from archipel.spec import ArchipelError, DataError, SpecError, StateError, StorageFullError, TaskError, unpack

TASK = """
import numpy as np

from archipel.tasks.numpy import NumpyTask, Split, rows_of


class Points(NumpyTask):
    classes, features, label = ("left", "right"), ("x", "y"), "side"

    def statistics(self, site):
        return {}

    def read(self, site, statistics):
        rows = dict(np.load(site.path / "points.npz"))
        held_out = np.arange(len(rows["x"])) % 5 == 0
        test = rows_of(rows, held_out)
        return Split(train=rows_of(rows, ~held_out), test=test, validation=test)

    def model(self, statistics):
        print("what a task prints is for people")
        from archipel.tasks.numpy import Network

        return Network(inputs=2, hidden=(8,), outputs=2, mean=np.zeros(2), scale=np.ones(2))
"""
JOB = """
name = "points"
[task]
code = "task.py:Points"
[data]
dataset = "points"
[federation]
rounds = 6
[federation.local]
learning_rate = 0.5
batch_size = 8
[evaluation]
every = 3
[simulation]
clients = 1000000
cohort = 9
partition = "dirichlet"
label = "side"
rows = 20
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 500)
    (tmp_path / "rows").mkdir()
    x, y = rng.normal(side[:, None] * 2.0 - 1.0, 0.6, (500, 2)).T
    np.savez(tmp_path / "rows" / "points.npz", x=x, y=y, side=side)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "task.py").write_text(TASK)
    (tmp_path / "code" / "job.toml").write_text(JOB)
    return tmp_path / "code" / "job.toml"


def _simulate(job: Path, data: Path | None, executor: str | None = None, spread: str | None = None) -> str:
    console = Console(record=True, width=200)
    simulate_job(job, (), data, None, console, executor=executor, spread=spread, as_json=False)
    return console.export_text()


def test_a_population_is_simulated_and_leaves_rounds_model_and_result(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _simulate(job, tmp_path / "rows")
    assert "1,000,000 clients by dirichlet, 9 a round" in said
    assert "executor loop: the framework has no other" in said
    place = tmp_path / ".archipel" / "points" / "simulation"
    rounds = [json.loads(line) for line in (place / "rounds.jsonl").read_bytes().splitlines()]
    assert [record["step"] for record in rounds] == [1, 2, 3, 4, 5, 6]
    assert all(record["clients"] == 9 and record["examples"] == 180 for record in rounds)
    assert [record["figures"] is not None for record in rounds] == [False, False, True, False, False, True]
    model = (place / "model.safetensors").read_bytes()
    result = json.loads((place / "result.json").read_bytes())
    assert result["model_digest"] == "sha256:" + hashlib.sha256(model).hexdigest()
    assert all(np.isfinite(array).all() for array in unpack(model).values())
    assert result["test"]["accuracy"] > 0.9
    assert result["test"]["accuracy"] == rounds[-1]["figures"]["accuracy"]
    # The same command gives the same model, and --json the same figures as the file.
    capsys.readouterr()
    simulate_job(job, (), tmp_path / "rows", None, Console(stderr=True), as_json=True)
    again = json.loads(capsys.readouterr().out)
    assert _timeless(again) == _timeless(result)


def _timeless(result: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on how fast the machine was."""
    history = [{**record, "seconds": 0} for record in result["history"]]
    return {**result, "seconds": 0, "finished_at": 0, "history": history}


REFUSED: list[tuple[str, str, str | None, str | None, type[ArchipelError], str]] = [
    ("no data", "", None, None, DataError, "needs --data"),
    ("no such executor", "", "rows", "stacked", TaskError, "has no executor 'stacked'"),
    ("an unknown executor", "", "rows", "fast", TaskError, "has no executor 'fast'"),
    ("an unknown label", 'label = "side"|label = "sied"', "rows", None, SpecError, "sied"),
    ("too many shards", 'partition = "dirichlet"|partition = "shards"', "rows", None, SpecError, "need 2000000 rows"),
    ("no population", "[simulation]|[preset.big.simulation]", "rows", "loop", SpecError, "has no .simulation."),
    ("a wrong partition", '"dirichlet"|"dirichlett"', "rows", None, SpecError, "dirichlett"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_simulated_is_refused_with_the_next_step(
    job: Path, tmp_path: Path, case: tuple[str, str, str | None, str | None, type[ArchipelError], str]
) -> None:
    _, edit, data, executor, kind, message = case
    before, _, after = edit.partition("|")
    job.write_text(JOB.replace(before, after) if before else JOB)
    with pytest.raises(kind, match=message) as caught:
        _simulate(job, None if data is None else tmp_path / data, executor)
    assert caught.value.hint


def test_a_client_that_diverges_is_named(job: Path, tmp_path: Path) -> None:
    rows = dict(np.load(tmp_path / "rows" / "points.npz"))
    np.savez(tmp_path / "rows" / "points.npz", **{**rows, "x": np.full(500, np.inf)})
    with pytest.raises(TaskError, match=r"^client-\d{6}: the loss is nan at step 2$"), np.errstate(all="ignore"):
        _simulate(job, tmp_path / "rows")


def test_a_full_disk_is_named(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageFullError, match="no space left"):
        _simulate(job, tmp_path / "rows")


def _interrupted_after(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C come when so many rounds are over; the next command is left alone."""
    seen = 0

    def check() -> None:
        nonlocal seen
        seen += 1
        if seen == rounds:
            raise KeyboardInterrupt

    monkeypatch.setattr(populating, "check", check)


@pytest.mark.parametrize("spread", ["inline", "processes:2"])
@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "fedyogi", "fedavg, what is lost kept"])
def test_an_interrupted_simulation_goes_on_and_ends_with_the_same_bytes(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, spread: str
) -> None:
    name, _, compressed = algorithm.partition(", ")
    chosen = JOB.replace("rounds = 6", f'rounds = 6\nalgorithm = "{name}"').replace("1000000", "12")
    chosen += '[federation.compression]\nkind = "top-k"\n' if compressed else ""
    job.write_text(chosen)
    place = tmp_path / ".archipel" / "points" / "simulation"
    _simulate(job, tmp_path / "rows")
    expected = (place / "model.safetensors").read_bytes()
    journal = [json.loads(line) for line in (place / "rounds.jsonl").read_bytes().splitlines()]
    _interrupted_after(4, monkeypatch)
    with pytest.raises(Interrupted) as stopped:
        _simulate(job, tmp_path / "rows", spread=spread)
    assert stopped.value.way_on == "the same command goes on after round 4"
    said = _simulate(job, tmp_path / "rows", spread=spread)
    assert "goes on after round 4" in said
    assert (place / "model.safetensors").read_bytes() == expected
    again = [json.loads(line) for line in (place / "rounds.jsonl").read_bytes().splitlines()]
    assert [{**record, "seconds": 0} for record in again] == [{**record, "seconds": 0} for record in journal]
    assert not (place / "checkpoint.safetensors").exists()
    assert "goes on" not in _simulate(job, tmp_path / "rows")


DEVICES = """
[simulation.time.devices]
seconds_per_example = 0.5
speed_sigma = 1.0
down_mbps = 0.01
up_mbps = 0.005
online = 0.5
session_seconds = 30
"""
MODES = {
    "synchronous": "",
    "deadline": "over_selection = 2\ndeadline_seconds = 9",
    "fedbuff": "concurrency = 12\nbuffer = 4",
}


def _timed(mode: str, devices: str = DEVICES) -> str:
    return f'{JOB}[simulation.time]\nmode = "{mode}"\n{MODES[mode]}\n{devices}'


@pytest.mark.parametrize(
    ("mode", "spread"), [("fedbuff", "processes:2"), ("fedbuff", "inline"), ("deadline", "inline")]
)
def test_virtual_time_goes_on_after_an_interruption_to_the_same_bytes_and_times(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, spread: str
) -> None:
    job.write_text(_timed(mode))
    place = tmp_path / ".archipel" / "points" / "simulation"
    _simulate(job, tmp_path / "rows")
    expected = (place / "model.safetensors").read_bytes()
    result = json.loads((place / "result.json").read_bytes())
    _interrupted_after(3, monkeypatch)
    with pytest.raises(Interrupted):
        _simulate(job, tmp_path / "rows", spread=spread)
    said = _simulate(job, tmp_path / "rows")
    assert "goes on after round 3" in said
    assert (place / "model.safetensors").read_bytes() == expected
    assert json.loads((place / "result.json").read_bytes())["simulated"] == result["simulated"]


@pytest.mark.parametrize("mode", MODES)
def test_what_virtual_time_came_to_is_said_and_kept(job: Path, tmp_path: Path, mode: str) -> None:
    job.write_text(_timed(mode))
    said = _simulate(job, tmp_path / "rows")
    place = tmp_path / ".archipel" / "points" / "simulation"
    rounds = [json.loads(line)["simulated"] for line in (place / "rounds.jsonl").read_bytes().splitlines()]
    simulated = json.loads((place / "result.json").read_bytes())["simulated"]
    assert simulated["seconds"] == rounds[-1]["at_seconds"] == pytest.approx(sum(r["seconds"] for r in rounds))
    assert simulated["wasted_clients"] == sum(one["wasted_clients"] for one in rounds)
    assert ("staleness: mean" in said) == (mode == "fedbuff")
    assert ("wasted: " in said) == (mode != "synchronous")
    assert "s simulated" in said
    assert "as good as at the end after: accuracy" in said


def test_time_of_devices_that_are_always_there_changes_no_byte_of_synchronous_rounds(job: Path, tmp_path: Path) -> None:
    _simulate(job, tmp_path / "rows")
    place = tmp_path / ".archipel" / "points" / "simulation"
    expected = (place / "model.safetensors").read_bytes()
    untimed = (place / "result.json").read_bytes() + (place / "rounds.jsonl").read_bytes()
    assert b"simulated" not in untimed
    job.write_text(_timed("synchronous", DEVICES.replace("online = 0.5\n", "")))
    _simulate(job, tmp_path / "rows")
    assert (place / "model.safetensors").read_bytes() == expected


def test_a_trace_lies_beside_the_job_and_another_one_is_another_simulation(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.write_text(_timed("deadline", '[simulation.time.devices]\ntrace = "devices.csv"\n'))
    with pytest.raises(DataError, match="there is no trace at") as missing:
        _simulate(job, tmp_path / "rows")
    assert "`trace`" in missing.value.hint
    (job.parent / "devices.csv").write_text("device,seconds_per_example\nfast,0.1\nslow,0.4\n")
    _interrupted_after(2, monkeypatch)
    with pytest.raises(Interrupted):
        _simulate(job, tmp_path / "rows")
    (job.parent / "devices.csv").write_text("device,seconds_per_example\nfast,0.1\nslow,0.5\n")
    assert "goes on" not in _simulate(job, tmp_path / "rows")
    # 20 rows are 2 seconds on a fast device and 10 on a slow one: with too few fast ones the deadline ends the round.
    rounds = (tmp_path / ".archipel" / "points" / "simulation" / "rounds.jsonl").read_bytes().splitlines()
    assert {round(json.loads(line)["simulated"]["seconds"], 6) for line in rounds} == {2.0, 9.0}


def test_an_algorithm_that_cannot_go_with_fedbuff_is_refused_before_anything_is_read(job: Path) -> None:
    job.write_text(_timed("fedbuff").replace("rounds = 6", 'rounds = 6\nalgorithm = "scaffold"'))
    with pytest.raises(SpecError, match='scaffold cannot go with mode = "fedbuff"'):
        _simulate(job, None)


def test_another_job_does_not_go_on_from_this_ones_rounds(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupted_after(2, monkeypatch)
    with pytest.raises(Interrupted):
        _simulate(job, tmp_path / "rows")
    job.write_text(JOB.replace("learning_rate = 0.5", "learning_rate = 0.25"))
    assert "goes on" not in _simulate(job, tmp_path / "rows")


def test_another_executor_a_journal_that_lost_rounds_and_a_damaged_checkpoint_are_refused(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupted_after(3, monkeypatch)
    with pytest.raises(Interrupted):
        _simulate(job, tmp_path / "rows")
    place = tmp_path / ".archipel" / "points" / "simulation"
    with pytest.raises(StateError, match="the 3 rounds there are were computed by loop"):
        _simulate(job, tmp_path / "rows", "stacked")
    lines = (place / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    (place / "rounds.jsonl").write_bytes(lines[0])
    with pytest.raises(StateError, match=r"has 1 rounds, the checkpoint beside it 3") as lost:
        _simulate(job, tmp_path / "rows")
    (place / "checkpoint.safetensors").write_bytes(b"no tensors")
    with pytest.raises(SpecError, match="cannot be read") as damaged:
        _simulate(job, tmp_path / "rows")
    assert "delete" in lost.value.hint
    assert "delete" in damaged.value.hint
    (place / "checkpoint.safetensors").unlink()
    assert "6 rounds" in _simulate(job, tmp_path / "rows")
