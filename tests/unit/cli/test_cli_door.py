"""The door itself: help is cheap, every command is explained and documented, failures name the next step."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from cyclopts import App

from archipel import __version__
from archipel.cli.main import COMMANDS, build_app, main
from archipel.spec import ArchipelError, LinkError, errors

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
HEAVY = ("torch", "litestar", "sqlalchemy", "grpc", "numpy", "onnxruntime", "httpx", "optuna", "archipel.spec")


def run_main(*words: str) -> int:
    try:
        main(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from archipel.cli.main import main\n"
    code += "try: main(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: archipel" in done.stdout
    assert [name for name in done.stderr.split() if name in HEAVY] == []


@pytest.mark.parametrize("name", [name for name, _, _ in COMMANDS])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(name, "--help") == 0
    assert f"Usage: archipel {name}" in capsys.readouterr().out


def _leaves(command: App) -> list[App]:
    """Return the command itself, or those below it."""
    below = [command[name] for name in command if not name.startswith("-")]
    return [leaf for one in below for leaf in _leaves(one)] or [command]


@pytest.mark.parametrize("name", [name for name, _, _ in COMMANDS])
def test_every_command_and_option_is_in_the_reference(name: str) -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert f"`archipel {name}" in text
    options = {
        option
        for command in _leaves(build_app(name)[name])
        for argument in command.assemble_argument_collection()
        for option in argument.names
        if option.startswith("-")
    }
    missing = [option for option in sorted(options) if f"`{option}" not in text]
    assert missing == []


def test_every_exit_code_is_in_the_reference() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    for item in vars(errors).values():
        if isinstance(item, type) and issubclass(item, ArchipelError) and item is not ArchipelError:
            row = next(line for line in text.splitlines() if line.startswith(f"| {item.exit_code} |"))
            assert item.__name__ in row


@dataclass(frozen=True)
class Mistake:
    words: tuple[str, ...]
    code: int
    error: str
    hint: str


MISTAKES = [
    Mistake(("stauts",), 2, "unknown command 'stauts'", "did you mean `archipel status`?"),
    Mistake(("status", "--jsn"), 2, "Unknown option", "archipel status --help"),
    Mistake(("predict", "m"), 2, "--site", "archipel predict --help"),
    Mistake(("plan", "nowhere.toml"), 2, "no job file at nowhere.toml", "path of a job.toml"),
    Mistake(("status",), 6, "no control plane is named", "archipel up"),
    Mistake(("status", "--state", "empty"), 6, "no control plane has run in empty", "archipel up --state empty"),
    Mistake(("status", "--control", "https://x"), 6, "needs its operator file", "--operator FILE"),
    Mistake(("join", "arc1.nonsense"), 5, "the join token is damaged", "archipel invite"),
    Mistake(("join", "hello"), 5, "not a join token", "archipel invite"),
    Mistake(("join",), 2, "which site?", "--folder"),
    Mistake(("join", "arc1.x", "--data", "birds"), 2, "is not NAME=PATH", "--data penguins="),
    Mistake(("join", "arc1.x", "--data", "birds=nowhere"), 3, "no data at", "--data birds="),
    Mistake(("predict", "m", "--site", "a", "--input", "{"), 2, "--input is not JSON", "features"),
    Mistake(("predict", "m", "--site", "a", "--input", "[1]"), 2, "must be an object", "features"),
    Mistake(("predict", "m", "--site", "a", "--input", "@nowhere.json"), 2, "no file nowhere.json", "@FILE"),
    Mistake(("stop",), 6, "no control plane is named", "archipel up"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: " ".join(mistake.words))
def test_a_mistake_names_itself_and_the_next_step(
    mistake: Mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARCHIPEL_STATE", raising=False)
    assert run_main(*mistake.words) == mistake.code
    said = capsys.readouterr().err
    assert mistake.error in re.search(r"error: (.*)", said)[1]
    assert mistake.hint in re.search(r"next:  (.*)", said)[1]
    assert "Traceback" not in said


def test_a_traceback_is_shown_on_request_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHIPEL_DEBUG", "1")
    assert run_main("plan", str(tmp_path / "nowhere.toml")) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_job_file_with_an_unknown_key_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = tmp_path / "job.toml"
    job.write_text('name = "x"\n[task]\ncode = "t.py:T"\n[data]\ndataset = "d"\n[federation]\nround = 3\n')
    assert run_main("plan", str(job)) == 2
    said = capsys.readouterr().err
    assert "'round'" in said
    assert "did you mean 'rounds'?" in said


def test_a_fault_of_our_own_is_told_from_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("archipel.cli.commands.about.version", lambda: 1 / 0)
    assert run_main("version") == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_interruption_exits_with_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("archipel.cli.commands.about.version", interrupted)
    assert run_main("version") == 130
    assert "archipel resume" in capsys.readouterr().err


def test_an_error_of_the_tree_exits_with_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable() -> None:
        raise LinkError("nobody is there", hint="look again")

    monkeypatch.setattr("archipel.cli.commands.about.version", unreachable)
    assert run_main("version") == 7
    assert capsys.readouterr().err == "error: nobody is there\nnext:  look again\n"


def test_version_is_told_to_people_and_tools(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("version", "--json") == 0
    assert json.loads(capsys.readouterr().out)["archipel"] == __version__
    assert run_main("--version") == 0
    assert capsys.readouterr().out.strip() == __version__


def test_an_invitation_is_told_without_its_secret_on_a_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    invitation = SimpleNamespace(token="arc1.secret")
    client = SimpleNamespace(invite=lambda _site: invitation)
    monkeypatch.setattr("archipel.cli.commands.sites.connect", lambda *_: contextlib.nullcontext(client))
    assert run_main("invite", "north") == 0
    said = capsys.readouterr()
    assert said.out == "arc1.secret\n"
    assert "archipel join - --data NAME=PATH" in said.err
    assert "arc1.secret" not in said.err


def test_schema_knows_the_sections_of_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"task", "data", "federation", "deployment", "preset"} <= set(schema["$defs"]["JobSpec"]["properties"])


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m archipel.cli.main schema | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "0"
    assert "Traceback" not in done.stderr
