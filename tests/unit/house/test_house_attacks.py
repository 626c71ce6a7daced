"""The table of attacks: what it says of tests that pass, fail or are skipped; the threat model's are all in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from attacks import CONCEPTS, NOT_HELD, PARTIES, Attack, Table, page_of

TESTS = Path(__file__).parents[2]
THREATS = CONCEPTS / "threat-model.md"
LEFT = "Counts leave exactly, in every mode."
"""A sentence of the threat model; there it has marks in it."""

TRIED = """
import pytest

@pytest.mark.attack("network", "guess {secret}")
@pytest.mark.parametrize("secret", ["a", "b", "c"])
def test_guessed(secret): assert secret != "c"

@pytest.mark.attack("thief", "read", result="open", open="Counts leave exactly, in every mode.")
def test_read(): pass

@pytest.mark.attack("thief", "hide", open="Nobody was told of this.")
def test_hidden(): pass

@pytest.mark.attack("thief", "wait", result="detected")
@pytest.mark.skip(reason="not here")
def test_left_out(): pass

@pytest.mark.attack("task code", "escape", open="Counts leave exactly, in every mode.")
def test_many(record_property):
    record_property("tries", 15)
    record_property("open", 2)

@pytest.mark.attack("task code", "escape untold")
def test_untold(record_property): record_property("open", 1)

def test_no_attack(): pass
"""


def rows_of(folder: Path, text: str) -> tuple[int, dict[str, dict[str, object]]]:
    """Run tests as `make attack` does; return the exit code, and the rows by name."""
    (folder / "test_tried.py").write_text(text)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "attacks", "-m", "attack", "-c", os.devnull]
    words += ["--rootdir", str(folder), "--attacks", str(folder / "rows.json"), str(folder)]
    ended = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(TESTS)}, capture_output=True, check=False)
    rows = json.loads((folder / "rows.json").read_bytes())
    assert all(row["name"].encode() in ended.stdout for row in rows)
    return ended.returncode, {row["name"]: row for row in rows}


def test_a_row_says_what_was_run_and_an_attack_that_gets_through_untold_is_no_success(tmp_path: Path) -> None:
    code, rows = rows_of(tmp_path, TRIED)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert {name: (row["tries"], row["result"], row["holds"]) for name, row in rows.items()} == {
        "guess a": (1, "blocked", True),
        "guess b": (1, "blocked", True),
        "guess c": (1, NOT_HELD, False),
        "read": (1, "open", True),
        "hide": (1, NOT_HELD, False),
        "wait": (0, "not tried", False),
        "escape": (15, "13 blocked, 2 open", True),
        "escape untold": (1, NOT_HELD, False),
    }


@pytest.mark.parametrize(
    ("kept", "code"),
    [("test_read", pytest.ExitCode.OK), ("test_left_out", pytest.ExitCode.TESTS_FAILED)],
)
def test_all_that_was_told_succeeds_and_nothing_tried_does_not(tmp_path: Path, kept: str, code: int) -> None:
    tests = TRIED.split("\n\n")
    assert rows_of(tmp_path, "\n\n".join([tests[0], *(one for one in tests if f"def {kept}" in one)]))[0] == code


def test_one_failure_among_many_tries_is_the_rows_result() -> None:
    table = Table()
    for outcome in ("passed", "failed", "passed"):
        table.add(Attack("network", "knock"), "test_knock", outcome)
    [row] = table.sorted()
    assert (row.tries, row.told, row.holds, row.failed) == (3, NOT_HELD, False, ["test_knock"])


@pytest.mark.parametrize(
    "words", [("neighbour", "knock"), ("network", "knock", "stopped"), ("network", "knock", "open")]
)
def test_a_mark_that_says_too_little_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"a party of the threat model|said in a sentence"):
        Attack(*words)  # type: ignore[arg-type]


def test_what_stays_open_is_looked_for_without_marks_and_line_breaks() -> None:
    assert page_of(LEFT) == THREATS.name
    assert page_of("Everything is safe.") is None


def test_the_parties_are_the_threat_models() -> None:
    text = THREATS.read_text(encoding="utf-8")
    assert [party for party in PARTIES if f"| **{party}** |" not in text] == ["task code", "crash"]


def test_every_test_that_the_threat_model_names_is_in_the_table() -> None:
    named = set(re.findall(r"\.\./\.\./(tests/[\w/]+\.py)", THREATS.read_text(encoding="utf-8")))
    assert named
    assert [name for name in sorted(named) if "mark.attack(" not in (TESTS.parent / name).read_text()] == []
