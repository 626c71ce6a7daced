"""Job files: what is accepted, and what each mistake is answered with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from archipel.spec import JobSpec, SpecError, UnknownNameError, decode, encode, job_schema, read_job
from archipel.spec.timing import DeviceSpec, FedBuff

GOOD = """
name = "penguins"
[task]
code = "task.py:Penguins"
[data]
dataset = "birds"
[data.contract]
label = "species"
[data.contract.columns.bill_length_mm]
kind = "number"
low = 10
[federation]
rounds = 5
[federation.local]
learning_rate = 0.5
[preset.quick.federation]
rounds = 1
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "job.toml"
    path.write_text(text)
    return path


def test_a_job_file_is_read_with_its_defaults(tmp_path) -> None:
    job = read_job(_write(tmp_path, GOOD))
    assert (job.name, job.federation.rounds, job.federation.algorithm) == ("penguins", 5, "fedavg")
    assert job.data.contract.columns["bill_length_mm"].low == 10
    assert job.federation.absent == "wait"
    assert job.control is None


def test_a_preset_lies_over_the_rest(tmp_path) -> None:
    job = read_job(_write(tmp_path, GOOD), ("quick",))
    assert job.federation.rounds == 1
    assert job.federation.local.learning_rate == 0.5


def test_canonical_bytes_read_back_and_are_stable(tmp_path) -> None:
    job = read_job(_write(tmp_path, GOOD))
    assert decode(encode(job), JobSpec) == job
    assert encode(decode(encode(job), JobSpec)) == encode(job)
    assert job.digest == read_job(_write(tmp_path, GOOD)).digest
    assert job.digest != read_job(_write(tmp_path, GOOD), ("quick",)).digest


@dataclass(frozen=True)
class Mistake:
    change: tuple[str, str]
    says: str
    hint: str = ""


MISTAKES = [
    Mistake(("rounds = 5", "ronds = 5"), "'ronds'", "did you mean 'rounds'"),
    Mistake(("[federation]\n", "[federatoin]\n"), "'federatoin'", "did you mean 'federation'"),
    Mistake(("learning_rate", "learnin_rate"), "'learnin_rate'", "did you mean 'learning_rate'"),
    Mistake(("rounds = 5", 'rounds = "five"'), "rounds"),
    Mistake(("rounds = 5", "rounds = 0"), ">= 1"),
    Mistake(("learning_rate = 0.5", "learning_rate = -1"), "> 0"),
    Mistake(('name = "penguins"', 'name = "../etc"'), "name"),
    Mistake(('code = "task.py:Penguins"', 'code = "task.py"'), "code"),
    Mistake(('kind = "number"', 'kind = "numbr"'), "numbr"),
    Mistake(("[task]", "[task"), "not valid TOML", "line"),
    Mistake(("low = 10", "lo = 10"), "[columns] [bill_length_mm]: 'lo'", "did you mean 'low'"),
    Mistake(("low = 10", "low = -inf"), "[bill_length_mm] [low] is -inf", "finite"),
    Mistake(("learning_rate = 0.5", "learning_rate = nan"), "[federation] [local] [learning_rate] is nan", "finite"),
    Mistake(("[task]", "[deployment.question]\nx = [1.0, [inf]]\n[task]"), "[question] [x] is inf", "finite"),
    Mistake(("[preset.quick.federation]\nrounds = 1", "[preset]\nquick = 5"), "[preset.quick]", "[preset.quick."),
    Mistake(("[preset.quick.federation]\nrounds = 1", "[[preset]]\nrounds = 1"), "[preset.NAME]", "[preset.quick."),
    Mistake(("rounds = 1", "ronds = 1"), "[preset.quick] [federation]: 'ronds'", "did you mean 'rounds'"),
    Mistake(("rounds = 5", 'algorithm = "fedagv"'), "fedagv"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.change[1].strip())
def test_a_mistake_is_named_with_the_next_step(tmp_path, mistake: Mistake) -> None:
    assert mistake.change[0] in GOOD
    with pytest.raises(SpecError) as caught:
        read_job(_write(tmp_path, GOOD.replace(*mistake.change)))
    assert mistake.says in str(caught.value)
    assert mistake.hint in caught.value.hint
    assert caught.value.hint


TIMED = """
[simulation]
cohort = 5
[simulation.time]
mode = "fedbuff"
buffer = 3
[simulation.time.devices]
online = 0.5
[preset.small.simulation.time]
buffer = 2
"""


def test_the_mode_of_time_says_which_keys_there_are_and_a_preset_may_leave_it_out(tmp_path) -> None:
    job = read_job(_write(tmp_path, GOOD + TIMED), ("small",))
    assert job.simulation.time == FedBuff(buffer=2, devices=DeviceSpec(online=0.5))
    assert decode(encode(job), JobSpec) == job


@pytest.mark.parametrize("mistake", [
    Mistake(("cohort = 5", "cohrt = 5"), "[simulation]: 'cohrt'", "did you mean 'cohort'"),
    Mistake(('"fedbuff"', '"fedbuf"'), "unknown mode", "did you mean 'fedbuff'"),
    Mistake(('mode = "fedbuff"\n', ""), "`mode`", "archipel schema"),
    Mistake(("buffer = 3", "bufer = 3"), "[time] with mode 'fedbuff': 'bufer'", "did you mean 'buffer'"),
    Mistake(("buffer = 3", "deadline_seconds = 3"), "'deadline_seconds'", "known: buffer, concurrency"),
    Mistake(("buffer = 2", "bufer = 2"), "[preset.small] [simulation] [time]: 'bufer'", "did you mean 'buffer'"),
    Mistake(("online = 0.5", "onlin = 0.5"), "[devices]: 'onlin'", "did you mean 'online'"),
    Mistake(("online = 0.5", "online = 0"), "`$.simulation.time.devices.online`", "archipel schema"),
], ids=lambda mistake: mistake.says)  # fmt: skip
def test_a_mistake_in_time_is_named_with_the_next_step(tmp_path, mistake: Mistake) -> None:
    with pytest.raises(SpecError) as caught:
        read_job(_write(tmp_path, (GOOD + TIMED).replace(*mistake.change)))
    assert mistake.says in caught.value.message
    assert mistake.hint in caught.value.hint


def test_an_absent_file_and_an_unknown_preset_are_named(tmp_path) -> None:
    with pytest.raises(SpecError, match="no job file"):
        read_job(tmp_path / "none.toml")
    with pytest.raises(UnknownNameError, match="'quik'") as caught:
        read_job(_write(tmp_path, GOOD), ("quik",))
    assert "quick" in caught.value.hint


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(SpecError, match="job/9"):
        decode(b'{"type":"job/9","name":"x"}', JobSpec)


def test_the_schema_names_every_key_and_no_type_tag() -> None:
    schema = job_schema()
    text = json.dumps(schema)
    assert "learning_rate" in text
    assert "dirichlet" in text
    assert "type" not in schema["$defs"]["JobSpec"]["properties"]
    assert set(schema["$defs"]["JobSpec"]["required"]) == {"name", "task", "data"}
