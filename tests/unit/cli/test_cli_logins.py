"""What a log-in leaves in the working directory, and which control plane is logged in to."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from archipel.cli import logins
from archipel.cli.planes import find_state, operator_of, remember
from archipel.spec import SpecError, StateError, encode
from archipel.spec.people import Login, Person
from archipel.spec.views import Operator

OWNER = Operator(url="https://control.example:7400", local="https://localhost:7400", ca_pem="pem", token="owner")
ANA = Login(person=Person(name="ana@ward.example", role="viewer"), token="t" * 64, expires_at=1.0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARCHIPEL_STATE", raising=False)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "operator.json").write_bytes(encode(OWNER))
    remember(tmp_path / "state")
    return tmp_path


def test_a_log_in_is_a_folder_that_later_commands_find_and_its_file_is_for_its_owner_only() -> None:
    place = logins.place_of(None, None, None)
    assert (place.url, place.ca_pem, place.token) == (OWNER.url, OWNER.ca_pem, "")
    file = logins.keep(place, ANA)
    assert str(file) == ".archipel/logins/ana@ward.example@control.example.7400/operator.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert operator_of(find_state()).token == ANA.token


def test_two_people_in_one_directory_keep_their_log_ins_apart() -> None:
    place = logins.place_of(None, None, None)
    first = logins.keep(place, ANA)
    other = Login(person=Person(name="bob", role="admin"), token="u" * 64, expires_at=1.0)
    second = logins.keep(place, other)
    assert (operator_of(first.parent).token, operator_of(second.parent).token) == (ANA.token, other.token)
    assert find_state() == second.parent.resolve()


@pytest.mark.parametrize(("control", "ca"), [("https://x:1", None), (None, "ab" * 32)])
def test_an_address_and_a_fingerprint_go_together(control: str | None, ca: str | None) -> None:
    with pytest.raises(SpecError) as refused:
        logins.place_of(None, control, ca)
    assert "--control URL --ca FINGERPRINT" in refused.value.hint


def test_the_owners_file_is_no_log_in_and_is_not_deleted(home: Path) -> None:
    with pytest.raises(StateError, match="nobody is logged in here"):
        logins.end(None)
    assert operator_of(home / "state") == OWNER


@pytest.mark.parametrize("line", ["correct horse\n", "correct horse\r\n", "correct horse"])
def test_a_password_from_stdin_is_a_line_without_its_end(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))
    assert logins.ask_password("password", twice=True) == "correct horse"


def test_passwords_that_are_typed_twice_have_to_be_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    typed = iter(["one", "other", "same", "same"])
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(logins.getpass, "getpass", lambda _: next(typed))
    with pytest.raises(SpecError, match="differ"):
        logins.ask_password("password", twice=True)
    assert logins.ask_password("password", twice=True) == "same"
