"""Which control plane is meant: the order of the ways to name one, and what a fleet remembers."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from msgspec import convert, structs

from archipel.cli import naming, processes
from archipel.cli.commands.jobs import address_for
from archipel.cli.fleet import Fleet, FleetState, free_ports
from archipel.cli.planes import connect, find_state, operator_of, remember, remote
from archipel.spec import JobSpec, SpecError, StateError, encode
from archipel.spec.views import Operator

OPERATOR = Operator(url="https://here:1", ca_pem="pem", token="t")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARCHIPEL_STATE", raising=False)
    return tmp_path


def test_an_option_goes_before_the_environment_and_that_before_what_was_made_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remember(Path("last"))
    assert find_state() == Path("last")
    monkeypatch.setenv("ARCHIPEL_STATE", "named")
    assert find_state() == Path("named")
    assert find_state(Path("given")) == Path("given")


def test_an_address_may_be_overridden_for_a_control_plane_elsewhere(home: Path) -> None:
    file = home / "operator.json"
    file.write_bytes(encode(OPERATOR))
    assert remote(None, file) == OPERATOR
    assert remote("https://there:2", file).url == "https://there:2"
    assert remote("https://there:2", file).token == "t"


def test_control_is_called_by_its_local_name_on_its_own_machine_only(home: Path) -> None:
    file = home / "operator.json"
    file.write_bytes(encode(structs.replace(OPERATOR, local="https://localhost:1")))
    assert operator_of(home).local == "https://localhost:1"
    assert remote(None, file).local is None


def test_a_damaged_operator_file_is_refused(home: Path) -> None:
    (home / "operator.json").write_text("{}")
    with pytest.raises(SpecError, match="Operator"):
        operator_of(home)
    with pytest.raises(StateError, match="no operator file"):
        remote(None, home / "nowhere.json")


def test_a_fleet_remembers_across_commands_and_a_change_keeps_the_rest(home: Path) -> None:
    Fleet(home / "f").save(FleetState(job_file="job.toml", http_port=1, sites_port=2))
    Fleet(home / "f").change(run="r1", joined=("a",))
    assert Fleet(home / "f").state == FleetState(
        job_file="job.toml", http_port=1, sites_port=2, run="r1", joined=("a",)
    )


def test_a_fleet_that_is_not_there_has_no_state(home: Path) -> None:
    assert Fleet(home / "f").state is None
    with pytest.raises(StateError, match="no fleet"):
        Fleet(home / "f").change(run="r1")
    with pytest.raises(StateError, match="no fleet"):
        Fleet(home / "f").ensure_control()


def test_a_fleet_is_led_by_one_command_at_a_time(home: Path) -> None:
    with Fleet(home / "f").lock() as first, Fleet(home / "f").lock() as second:
        assert (first, second) == (True, False)
    with Fleet(home / "f").lock() as again:
        assert again


def test_a_process_that_dies_at_the_start_is_told_with_its_last_words(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(home / "f")
    fleet.save(FleetState(job_file="job.toml", http_port=1, sites_port=2))
    (home / "archipel").mkdir()
    code = "import sys; sys.stderr.write('error: port 1 is taken\\nnext:  stop the other\\n'); sys.exit(6)"
    real = processes.start

    def dying(folder: Path, role: str, _words: list[str], log: Path) -> object:
        return real(folder, role, ["-c", code], log)

    monkeypatch.setattr(processes, "start", dying)
    with pytest.raises(StateError, match="port 1 is taken") as caught:
        fleet.ensure_control()
    assert caught.value.hint == "stop the other"


def test_a_process_that_has_died_is_not_ready_though_another_answers_in_its_place(home: Path) -> None:
    fleet = Fleet(home / "f")
    code = "import sys; sys.stderr.write('error: held by another\\nnext: stop it first\\n'); sys.exit(6)"
    seen: list[bool] = []

    def answers() -> bool:
        """Answer once it has died."""
        (process,) = fleet._handles.values()
        seen.append(processes.is_alive(process))
        return not seen[-1]

    with pytest.raises(StateError, match="held by another") as caught:
        fleet.start_alone("control", ["-c", code], answers)
    assert caught.value.hint == "stop it first"


def test_free_ports_differ() -> None:
    assert len(set(free_ports(4))) == 4


def test_a_printed_command_names_this_installation(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    own = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{own}{os.pathsep}/usr/bin")
    assert naming.program() == "archipel"
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert shutil.which(naming.program()) is not None
    assert Path(naming.program()).samefile(own / "archipel")
    fake = home / ".venv" / "bin" / "python"
    fake.parent.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(fake))
    assert naming.program() == f"{fake} -m archipel.cli.main"
    (fake.parent / "archipel").touch()
    assert naming.program() == ".venv/bin/archipel"


@pytest.mark.parametrize(
    ("local", "wanted"),
    [("https://here:1", None), ("https://elsewhere:1", "https://plant.example:7400")],
    ids=["the plane here is the one named", "the plane here is another"],
)
def test_a_job_that_names_its_control_plane_goes_to_no_other(home: Path, local: str, wanted: str | None) -> None:
    remember(home)
    (home / "operator.json").write_bytes(encode(structs.replace(OPERATOR, url=local)))
    named = "https://plant.example:7400" if wanted else local
    job = convert({"name": "j", "task": {"code": "t.py:T"}, "data": {"dataset": "d"}, "control": named}, JobSpec)
    assert address_for(job, None, None) == wanted
    assert address_for(job, None, "https://given:1") == "https://given:1"


def test_a_job_whose_control_plane_is_not_https_is_sent_nowhere(home: Path) -> None:
    (home / "operator.json").write_bytes(encode(OPERATOR))
    job = convert({"name": "j", "task": {"code": "t.py:T"}, "data": {"dataset": "d"}, "control": "http://x:1"}, JobSpec)
    with pytest.raises(SpecError, match="not https"):
        connect(None, address_for(job, None, None), home / "operator.json")
