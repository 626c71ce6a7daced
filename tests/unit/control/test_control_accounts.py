"""Accounts in a real database: log-ins that end, roles that change, limits, and what the log says and does not say."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from archipel.control.services.accounts import doorkeeper as doorkeepers
from archipel.control.services.accounts.doorkeeper import Doorkeeper, UnauthorizedError, Visit
from archipel.control.services.accounts.logins import (
    LOGIN_SECONDS,
    LOGINS_EACH,
    TRIES_AT_ONCE,
    TRY_SECONDS,
    Logins,
)
from archipel.control.services.accounts.owner import Owner
from archipel.control.services.accounts.passwords import AT_ONCE, Passwords
from archipel.control.services.accounts.people import People
from archipel.control.services.accounts.refusals import ALL_AN_HOUR, AN_HOUR, FIRST, Refusals
from archipel.control.services.audit import EventLog
from archipel.control.store import schema
from archipel.control.store.database import Database
from archipel.spec import (
    ArchipelError,
    Event,
    SpecError,
    StateError,
    StorageFullError,
    TooManyError,
    TrustError,
    UnknownNameError,
    decode,
    encode,
)
from archipel.spec.people import Assignment, Login, NewPerson, PasswordChange, PasswordLogin, Person
from archipel.spec.views import Operator

PASSWORD = "correct horse staple"


class Quick(Passwords):
    """Passwords that cost nothing, and how often they were asked."""

    asked = 0

    def hash(self, password: str) -> str:
        return f"kept {password[::-1]}"

    def fits(self, password: str, kept: str | None) -> bool:
        self.asked += 1
        return kept == self.hash(password)


@dataclass
class Desk:
    database: Database
    now: float = 1000.0
    passwords: Quick = field(default_factory=Quick)

    def __post_init__(self) -> None:
        self.log = EventLog(self.database, self.clock)
        self.refusals = Refusals(self.log, self.clock)
        self.people = People(self.database, self.log, self.passwords, self.clock)
        self.logins = Logins(
            self.database, self.log, self.passwords, self.refusals, clock=self.clock, monotonic=self.clock
        )
        self.doorkeeper = Doorkeeper(self.logins, self.refusals, self.clock)
        self._secrets = itertools.count(1)

    def clock(self) -> float:
        return self.now

    def random(self, count: int) -> bytes:
        return next(self._secrets).to_bytes(count, "big")

    def add(self, name: str, role: str = "viewer", sites: tuple[str, ...] = ()) -> None:
        new = NewPerson(name=name, role=role, sites=sites, password=PASSWORD)  # type: ignore[arg-type]
        self.people.add(new, "person/admin")

    def log_in(self, name: str, password: str = PASSWORD, address: str = "10.0.0.1") -> Login:
        return self.logins.log_in(PasswordLogin(name=name, password=password), address, self.random)

    def events(self) -> list[Event]:
        return [logged.event for logged in self.log.read().events]

    def holds(self, login: Login) -> bool:
        try:
            self.logins.who(login.token)
        except TrustError:
            return False
        return True


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the present schema and nothing in it."""
    path = tmp_path_factory.mktemp("empty") / "control.db"
    database = Database.open(f"sqlite:///{path}")
    schema.upgrade(database)
    database.close()
    return path


@pytest.fixture
def desk(empty: Path, tmp_path: Path) -> Iterator[Desk]:
    database = Database.open(f"sqlite:///{shutil.copy(empty, tmp_path)}")
    yield Desk(database)
    database.close()


@pytest.fixture
def any_desk(database: Database) -> Desk:
    """On SQLite and on PostgreSQL."""
    return Desk(database)


def test_a_log_in_ends_by_itself_after_twelve_hours(desk: Desk) -> None:
    desk.add("ana")
    login = desk.log_in("ana")
    assert login.expires_at == 1000.0 + 12 * 3600
    desk.now += LOGIN_SECONDS - 1
    assert desk.logins.who(login.token) == Person(name="ana", role="viewer")
    desk.now += 1
    assert not desk.holds(login)


def test_logging_out_ends_that_log_in_and_no_other(desk: Desk) -> None:
    desk.add("ana")
    first, second = desk.log_in("ana"), desk.log_in("ana")
    desk.logins.end(first.token, first.person)
    assert (desk.holds(first), desk.holds(second)) == (False, True)


@pytest.mark.attack("former operator", "use a log-in of an account that was removed")
def test_removing_somebody_ends_their_log_ins_and_the_same_name_anew_does_not_revive_them(
    any_desk: Desk,
) -> None:
    any_desk.add("ana", "admin")
    any_desk.add("bob")
    login, other = any_desk.log_in("ana"), any_desk.log_in("bob")
    assert any_desk.people.remove("ana", "person/admin").logins == 1
    assert (any_desk.holds(login), any_desk.holds(other)) == (False, True)
    any_desk.add("ana")
    assert not any_desk.holds(login)


def test_who_is_removed_while_they_log_in_gets_no_token(desk: Desk) -> None:
    desk.add("ana")
    person = desk.log_in("ana").person
    desk.people.remove("ana", "person/admin")
    with pytest.raises(TrustError, match="was removed"):
        desk.logins.begin(person, "10.0.0.1", "password", desk.random)
    desk.add("ana")
    assert [view.logins for view in desk.people.list().people] == [0]


def test_another_role_counts_from_the_next_request_on(desk: Desk) -> None:
    desk.add("ana", "admin")
    login = desk.log_in("ana")
    desk.people.assign("ana", Assignment(role="data-owner", sites=("a", "b")), "person/admin")
    assert desk.logins.who(login.token) == Person(name="ana", role="data-owner", sites=("a", "b"))


def test_a_new_password_ends_all_log_ins_and_the_old_one_opens_nothing(desk: Desk) -> None:
    desk.add("ana")
    login = desk.log_in("ana")
    with pytest.raises(TrustError, match="name or the password is wrong"):
        desk.logins.change_password("ana", PasswordChange(old="no", new="another long one"), "10.0.0.1")
    with pytest.raises(SpecError, match="at least 12 characters"):
        desk.logins.change_password("ana", PasswordChange(old=PASSWORD, new="short"), "10.0.0.1")
    assert desk.holds(login)
    desk.logins.change_password("ana", PasswordChange(old=PASSWORD, new="another long one"), "10.0.0.1")
    assert not desk.holds(login)
    with pytest.raises(TrustError):
        desk.log_in("ana")
    assert desk.holds(desk.log_in("ana", "another long one"))


def test_more_log_ins_than_a_person_may_have_end_the_oldest(any_desk: Desk) -> None:
    any_desk.add("ana")
    logins = []
    for _ in range(LOGINS_EACH + 2):
        logins.append(any_desk.log_in("ana"))
        any_desk.now += TRY_SECONDS
    assert [any_desk.holds(login) for login in logins] == [False, False] + [True] * LOGINS_EACH


def test_a_wrong_name_and_a_wrong_password_look_the_same_and_cost_the_same(desk: Desk) -> None:
    desk.add("ana")
    said = []
    for name in ("ana", "nobody"):
        with pytest.raises(TrustError) as refused:
            desk.log_in(name, "wrong")
        said.append((refused.value.message, refused.value.hint))
    assert said[0] == said[1]
    assert desk.passwords.asked == 2


def test_the_owners_name_opens_nothing_with_any_password(desk: Desk, tmp_path: Path) -> None:
    Owner(desk.database, desk.logins, desk.clock).write(tmp_path, "https://u", "https://l", "pem", desk.random)
    for password in ("", "kept ", "None"):
        with pytest.raises(TrustError, match="name or the password"):
            desk.log_in("admin", password)


def test_deleting_the_owners_file_makes_another_token_and_ends_the_old_one(desk: Desk, tmp_path: Path) -> None:
    owner = Owner(desk.database, desk.logins, desk.clock)

    def write() -> Login:
        token = owner.write(tmp_path, "https://u", "https://l", "pem", desk.random).token
        return Login(person=Person(name="admin", role="admin"), token=token, expires_at=0.0)

    first, again = write(), write()
    assert first == again
    desk.now += 10 * LOGIN_SECONDS
    assert desk.holds(first)
    (tmp_path / "operator.json").unlink()
    second = write()
    assert (desk.holds(first), desk.holds(second)) == (False, True)
    assert len(desk.people.list().people) == 1


@dataclass(frozen=True)
class Wrong:
    name: str
    new: NewPerson
    error: type[ArchipelError]
    said: str


WRONG = (
    Wrong("short", NewPerson(name="bo", role="viewer", password="x" * 11), SpecError, "at least 12 characters"),
    Wrong("upper case", NewPerson(name="Bo", role="viewer", password=PASSWORD), SpecError, "no name of an account"),
    Wrong("line", NewPerson(name="bo\n", role="viewer", password=PASSWORD), SpecError, "no name of an account"),
    Wrong("path", NewPerson(name="../bo", role="viewer", password=PASSWORD), SpecError, "no name of an account"),
    Wrong("empty", NewPerson(name="", role="viewer", password=PASSWORD), SpecError, "no name of an account"),
    Wrong("sites", NewPerson(name="bo", role="admin", sites=("a",), password=PASSWORD), SpecError, "without sites"),
    Wrong("no site", NewPerson(name="bo", role="data-owner", password=PASSWORD), SpecError, "answers for sites"),
    Wrong("taken", NewPerson(name="ana", role="viewer", password=PASSWORD), StateError, "there is a ana already"),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_an_account_that_cannot_be_is_refused_with_the_reason_and_nothing_is_made(desk: Desk, wrong: Wrong) -> None:
    desk.add("ana")
    with pytest.raises(wrong.error, match=wrong.said) as refused:
        desk.people.add(wrong.new, "person/admin")
    assert refused.value.hint
    assert [view.name for view in desk.people.list().people] == ["ana"]


def test_the_owner_stays_admin_and_unknown_people_are_named(desk: Desk, tmp_path: Path) -> None:
    Owner(desk.database, desk.logins, desk.clock).write(tmp_path, "https://u", "https://l", "pem", desk.random)
    desk.add("ana")
    with pytest.raises(StateError, match="stays admin"):
        desk.people.remove("admin", "person/ana")
    with pytest.raises(StateError, match="stays admin"):
        desk.people.assign("admin", Assignment(role="viewer"), "person/ana")
    token = decode((tmp_path / "operator.json").read_bytes(), Operator).token
    with pytest.raises(StateError, match="no log-in"):
        desk.logins.end(token, desk.logins.who(token))
    with pytest.raises(UnknownNameError) as refused:
        desk.people.remove("anna", "person/admin")
    assert "'ana'" in refused.value.hint
    with pytest.raises(UnknownNameError):
        desk.people.assign("anna", Assignment(role="viewer"), "person/admin")


def test_the_log_says_who_did_what_to_whom_and_no_secret_is_in_it_or_in_the_database(any_desk: Desk) -> None:
    any_desk.add("ana", "data-owner", ("a", "b"))
    login = any_desk.log_in("ana")
    with pytest.raises(TrustError):
        any_desk.log_in("my-password-in-the-wrong-field", "wrong-password-typed")
    any_desk.people.assign("ana", Assignment(role="viewer"), "person/admin")
    any_desk.logins.end(login.token, login.person)
    any_desk.logins.change_password("ana", PasswordChange(old=PASSWORD, new="another long one"), "10.0.0.1")
    any_desk.people.remove("ana", "person/admin")
    events = any_desk.events()
    assert [(event.what, event.actor) for event in events] == [
        ("person.added", "person/admin"),
        ("login.accepted", "person/ana"),
        ("login.refused", "address/10.0.0.1"),
        ("person.assigned", "person/admin"),
        ("login.ended", "person/ana"),
        ("person.password.changed", "person/ana"),
        ("person.removed", "person/admin"),
    ]
    assert events[0].detail == {"name": "ana", "role": "data-owner", "sites": "a, b"}
    assert (events[2].level, events[2].detail["name"]) == ("warning", "unknown")
    written = b"".join(map(encode, events))
    for secret in (login.token, PASSWORD, "another long one", "wrong-password-typed", "wrong-field"):
        assert secret.encode() not in written


def test_the_database_holds_hashes_only(desk: Desk, tmp_path: Path) -> None:
    database = desk.database
    logins = Logins(database, desk.log, Passwords(), desk.refusals, clock=desk.clock, monotonic=desk.clock)
    people = People(database, desk.log, Passwords(), desk.clock)
    people.add(NewPerson(name="ana", role="viewer", password=PASSWORD), "person/admin")
    token = logins.log_in(PasswordLogin(name="ana", password=PASSWORD), "10.0.0.1", lambda count: b"\xab" * count).token
    held = b"".join(path.read_bytes() for path in tmp_path.glob("control.db*"))
    assert token == "ab" * 32
    assert token.encode() not in held
    assert PASSWORD.encode() not in held
    assert b"$argon2id$v=19$m=65536,t=3,p=4$" in held


def test_more_hashes_at_once_than_there_is_room_for_are_put_off() -> None:
    passwords = Passwords()
    taken = [passwords._entered() for _ in range(AT_ONCE)]
    for one in taken:
        one.__enter__()
    with pytest.raises(TooManyError):
        passwords.fits("x", None)
    with pytest.raises(TooManyError):
        passwords.hash("x")
    for one in taken:
        one.__exit__(None, None, None)
    assert not passwords.fits("x", None)


# ---- limits and refusals ----------------------------------------------------------------------------------------


def tries(desk: Desk, *pairs: tuple[str, str]) -> list[str]:
    """What comes of wrong tries to log in, as (name, address)."""
    outcomes = []
    for name, address in pairs:
        try:
            desk.log_in(name, "wrong", address)
        except TooManyError as error:
            outcomes.append(f"{error.wait_seconds:g}")
        except TrustError:
            outcomes.append("wrong")
    return outcomes


@pytest.mark.attack("network", "guess a password")
def test_tries_to_log_in_are_counted_by_name_and_by_address(desk: Desk) -> None:
    desk.add("ana")
    many = TRIES_AT_ONCE
    assert tries(desk, *[("ana", f"10.0.0.{n}") for n in range(many + 1)]) == ["wrong"] * many + ["30"]
    with pytest.raises(TooManyError):
        desk.log_in("ana", PASSWORD, "10.0.1.1")  # the right password is not even looked at
    assert tries(desk, *[(f"x{n}", "10.9.9.9") for n in range(many + 1)]) == ["wrong"] * many + ["30"]
    asked = desk.passwords.asked
    desk.now += TRY_SECONDS
    assert tries(desk, ("y", "10.9.9.9"), ("z", "10.9.9.9")) == ["wrong", "30"]
    assert desk.passwords.asked == asked + 1
    assert desk.holds(desk.log_in("ana", PASSWORD, "10.0.1.2"))


def test_a_held_token_does_not_help_to_guess_the_password(desk: Desk) -> None:
    desk.add("ana")
    desk.log_in("ana")
    guess = PasswordChange(old="no", new="another long one")
    for _ in range(TRIES_AT_ONCE - 1):
        with pytest.raises(TrustError):
            desk.logins.change_password("ana", guess, "10.0.0.1")
    with pytest.raises(TooManyError):
        desk.logins.change_password("ana", guess, "10.0.0.2")
    assert [event.what for event in desk.events()].count("login.refused") == TRIES_AT_ONCE


def test_an_ipv6_network_is_one_address(desk: Desk) -> None:
    many = TRIES_AT_ONCE
    assert tries(desk, *[(f"x{n}", f"2001:db8::{n}") for n in range(many + 1)]) == ["wrong"] * many + ["30"]
    assert tries(desk, ("y", "2001:db8:0:1::1")) == ["wrong"]


def visit(token: str | None, address: str = "10.0.0.1") -> Visit:
    return Visit(address=address, method="GET", path="/v1/sites", token=token)


def test_requests_are_counted_by_person_and_strangers_by_address(desk: Desk) -> None:
    desk.add("ana")
    desk.add("bob")
    ana, bob = desk.log_in("ana").token, desk.log_in("bob").token
    for _ in range(doorkeepers.REQUESTS_AT_ONCE):
        desk.doorkeeper.let_in(visit(ana), "sites.read")
    with pytest.raises(TooManyError, match="from this person") as refused:
        desk.doorkeeper.let_in(visit(ana, "10.0.0.2"), "sites.read")
    assert refused.value.wait_seconds == pytest.approx(1 / doorkeepers.REQUESTS_A_SECOND)
    assert desk.doorkeeper.let_in(visit(bob), "sites.read").name == "bob"
    for _ in range(doorkeepers.REQUESTS_AT_ONCE):
        with pytest.raises(UnauthorizedError):
            desk.doorkeeper.let_in(visit("wrong"), "sites.read")
    with pytest.raises(TooManyError, match="from this address"):
        desk.doorkeeper.open_to_all(visit(None))
    assert (
        desk.doorkeeper.let_in(visit(bob), "sites.read").name == "bob"
    )  # who has a token shares no limit with strangers
    desk.now += 1 / doorkeepers.REQUESTS_A_SECOND
    desk.doorkeeper.open_to_all(visit(None))
    assert desk.doorkeeper.let_in(visit(ana), "sites.read").name == "ana"


def refuse(desk: Desk, count: int, address: str = "10.0.0.1") -> None:
    for _ in range(count):
        with pytest.raises((UnauthorizedError, TooManyError)):
            desk.doorkeeper.let_in(visit(None, address), "sites.read")


@pytest.mark.attack("insider", "fill the audit log with refusals", result="survived")
def test_refusals_without_end_leave_a_bounded_number_of_entries_and_the_rest_is_counted(desk: Desk) -> None:
    refuse(desk, FIRST + 90)
    kept = [event.what for event in desk.events()]
    assert kept == ["request.refused"] * FIRST + ["refusals.left.out"]
    desk.now += 3600 / AN_HOUR
    refuse(desk, 2)
    last = desk.events()[FIRST + 1 :]
    assert [(event.what, event.detail["left_out_before"]) for event in last] == [("request.refused", 90)]
    assert last[0].detail | {"left_out_before": 0} == {
        "address": "10.0.0.1",
        "left_out_before": 0,
        "method": "GET",
        "path": "/v1/sites",
        "reason": "no bearer token",
    }


@pytest.mark.attack("insider", "fill the audit log with refusals", result="survived")
def test_refusals_from_many_addresses_are_bounded_together(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Event] = []
    monkeypatch.setattr(desk.log, "keep", kept.append)
    for number in range(ALL_AN_HOUR + 50):
        refuse(desk, 1, f"10.1.{number // 250}.{number % 250}")
    assert len(kept) == ALL_AN_HOUR + 1


def test_a_refusal_stays_one_where_the_log_cannot_be_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*events: Event) -> None:
        raise StorageFullError("no space left")

    monkeypatch.setattr(desk.log, "keep", full)
    with pytest.raises(UnauthorizedError):
        desk.doorkeeper.let_in(visit(None), "sites.read")
