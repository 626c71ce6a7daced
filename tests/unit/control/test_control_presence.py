"""Leases, by a clock the test holds: who is here, lost, away, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from archipel.control.services.sites.presence import Attendance, Attendances
from archipel.spec.wire import Cancel, ControlMessage


def enter(attendances: Attendances, site: str, now: float) -> tuple[Attendance, list[ControlMessage | None]]:
    said: list[ControlMessage | None] = []
    attendance = Attendance(site=site, send=said.append, seen=now)
    attendances.enter(attendance)
    return attendance, said


def test_an_idle_site_is_lost_after_thirty_seconds_and_once() -> None:
    attendances = Attendances()
    enter(attendances, "a", 100.0)
    assert attendances.expire(130.0) == ()
    assert attendances.expire(130.1) == ("a",)
    assert attendances.expire(131.0) == ()
    assert attendances.presence("a") == "lost"
    assert attendances.present() == ()


def test_a_site_that_holds_work_is_lost_after_one_second_of_silence() -> None:
    attendances = Attendances()
    enter(attendances, "a", 0.0)
    attendances.assign("a", "run", Cancel(run="run"), 20.0)
    assert attendances.expire(21.0) == ()
    assert attendances.expire(21.1) == ("a",)


def test_work_given_to_a_silent_site_does_not_lose_it_at_once() -> None:
    attendances = Attendances()
    enter(attendances, "a", 0.0)
    attendances.assign("a", "run", Cancel(run="run"), 29.0)
    assert attendances.expire(29.9) == ()


def test_when_its_work_is_done_a_site_has_the_long_lease_again() -> None:
    attendances = Attendances()
    enter(attendances, "a", 0.0)
    attendances.assign("a", "run", Cancel(run="run"), 0.0)
    attendances.assign("a", "other", Cancel(run="other"), 0.0)
    attendances.release("a", "run")
    assert attendances.expire(2.0) == ("a",)
    assert attendances.touch("a", 2.5)
    attendances.release("a", "other")
    assert attendances.expire(30.0) == ()


def test_a_sign_of_life_says_once_that_the_site_is_back() -> None:
    attendances = Attendances()
    enter(attendances, "a", 0.0)
    attendances.expire(31.0)
    assert attendances.touch("a", 32.0)
    assert not attendances.touch("a", 33.0)
    assert attendances.presence("a") == "here"


def test_a_newer_stream_ends_the_older_and_the_older_ones_end_changes_nothing() -> None:
    attendances = Attendances()
    older, said = enter(attendances, "a", 0.0)
    enter(attendances, "a", 1.0)
    assert said == [None]
    assert not attendances.leave(older)
    assert attendances.presence("a") == "here"


def test_a_broken_stream_is_away_at_once_and_lost_when_its_lease_ends() -> None:
    attendances = Attendances()
    attendance, _ = enter(attendances, "a", 0.0)
    assert attendances.leave(attendance)
    assert attendances.presence("a") == "away"
    assert attendances.expire(30.0) == ()
    assert attendances.expire(30.1) == ("a",)
    assert attendances.expire(60.0) == ()


def test_who_comes_back_within_the_lease_was_never_lost() -> None:
    attendances = Attendances()
    attendance, _ = enter(attendances, "a", 0.0)
    attendances.leave(attendance)
    enter(attendances, "a", 10.0)
    assert attendances.expire(39.0) == ()


def test_after_a_restart_sites_have_an_idle_lease_to_come_back() -> None:
    attendances = Attendances()
    attendances.expect(("a", "b"), 0.0)
    enter(attendances, "b", 5.0)
    assert attendances.expire(30.1) == ("a",)


def test_messages_to_a_site_that_is_away_go_nowhere() -> None:
    attendances = Attendances()
    attendances.push("a", Cancel(run="run"))
    attendances.assign("a", "run", Cancel(run="run"), 0.0)
    attendances.dismiss(("a",), Cancel(run="run"))
    assert attendances.expire(100.0) == ()


@given(
    st.lists(st.tuples(st.sampled_from(["enter", "leave", "touch", "assign", "release", "expire"]), st.floats(0, 40)))
)
def test_a_site_is_reported_lost_only_after_a_lease_without_a_sign(steps: list[tuple[str, float]]) -> None:
    attendances = Attendances()
    now, seen, attendance = 0.0, 0.0, None
    for what, seconds in steps:
        now += seconds
        if what == "enter":
            attendance, _ = enter(attendances, "a", now)
            seen = now
        elif what == "leave" and attendance is not None:
            attendances.leave(attendance)
        elif what == "touch":
            attendances.touch("a", now)
            seen = now if attendances.get("a") else seen
        elif what == "assign":
            attendances.assign("a", "run", Cancel(run="run"), now)
        elif what == "release":
            attendances.release("a", "run")
        elif "a" in attendances.expire(now):
            assert now - seen > attendances.busy_seconds
