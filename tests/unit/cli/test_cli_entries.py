"""A job's own functions run in a process of their own; what they return or raise comes back as a value or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.cli import entries, processes
from archipel.spec import ArchipelError, DataError, JobSpec, TaskError
from archipel.spec.job import DataSpec, FederationSpec, TaskSpec

CODE = """
from pathlib import Path
from archipel.spec import DataError
import sibling

def figures(job, data):
    seen = {"accuracy": 0.5 + job.federation.seed, "nothing": float("nan"), "folder": str(type(data).__name__)}
    return {**seen, "at": sibling.AT}

def raises(job, data):
    return 1 / 0

def refuses(job, data):
    raise DataError("no birds", hint="feed them")

def odd(job, data):
    return object()

def dies(job, data):
    import os
    os._exit(3)

def late(job, data):
    import sibling as again
    return {"at": again.AT}
"""

JOB = JobSpec(
    name="birds",
    task=TaskSpec(code="task.py:Birds"),
    data=DataSpec(dataset="birds"),
    federation=FederationSpec(seed=7),
)


def run(tmp_path: Path, function: str) -> object:
    job = tmp_path / "job"
    job.mkdir(exist_ok=True)
    (job / "reference.py").write_text(CODE)
    (job / "sibling.py").write_text("AT = 'home'\n")
    order = entries.Order(
        folder=str(job),
        entry=f"reference.py:{function}",
        job=JOB,
        paths=("/data",),
        result=str(tmp_path / "answer.json"),
    )
    return entries.begin(tmp_path, "reference", order, tmp_path / "log").result()


def test_a_function_gets_its_arguments_and_its_siblings_and_answers_with_plain_values(tmp_path: Path) -> None:
    assert run(tmp_path, "figures") == {"accuracy": 7.5, "nothing": None, "folder": "PosixPath", "at": "home"}
    assert list(processes.members(tmp_path)) == []


def test_a_sibling_may_be_imported_inside_the_function(tmp_path: Path) -> None:
    assert run(tmp_path, "late") == {"at": "home"}


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("raises", TaskError, "ZeroDivisionError"),
        ("refuses", DataError, "no birds"),
        ("odd", TaskError, "JSON"),
        ("missing", TaskError, "missing"),
        ("dies", TaskError, "ended without an answer"),
    ],
)
def test_a_failure_names_what_failed(tmp_path: Path, function: str, kind: type[ArchipelError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        run(tmp_path, function)
    assert caught.value.hint
