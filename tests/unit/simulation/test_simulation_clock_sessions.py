"""When clients are available: work pauses while they are away, any time can be asked, overlaps are one session."""

from __future__ import annotations

from itertools import islice, pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.simulation.clock.sessions import Always, Cycles, Listed, available_from, finish, merged, worked

# Available in 2 … 5 and 8 … 9, again each 10 seconds.
SOME = Listed([(8.0, 9.0), (2.0, 5.0)], 10.0)


@pytest.mark.parametrize(("began", "work", "ends"), [
    (0.0, 0.0, 2.0),
    (0.0, 3.0, 5.0),
    (0.0, 3.5, 8.5),
    (4.0, 2.0, 9.0),
    (4.0, 2.5, 12.5),
    (9.0, 1.0, 13.0),
    (22.0, 4.0, 29.0),
    (0.0, 42.0, 104.0),
])  # fmt: skip
def test_work_goes_on_in_the_next_session_where_it_was(began: float, work: float, ends: float) -> None:
    assert finish(SOME, began, work) == pytest.approx(ends)


@pytest.mark.parametrize(("began", "until", "seconds"), [
    (0.0, 2.0, 0.0), (0.0, 3.5, 1.5), (0.0, 5.0, 3.0), (0.0, 7.0, 3.0), (4.0, 8.5, 1.5), (0.0, 30.0, 12.0),
])  # fmt: skip
def test_time_away_is_no_work(began: float, until: float, seconds: float) -> None:
    assert worked(SOME, began, until) == pytest.approx(seconds)


def test_a_client_that_is_away_is_available_from_its_next_session() -> None:
    assert [available_from(SOME, moment) for moment in (0.0, 3.0, 5.0, 8.5, 9.5)] == [2.0, 3.0, 8.0, 8.5, 12.0]
    assert available_from(Always(), 7.0) == 7.0


cycles = st.builds(
    Cycles,
    online=st.floats(0.05, 0.95),
    session_seconds=st.floats(1.0, 1000.0),
    seed=st.integers(0, 9),
    client=st.integers(0, 99),
)
lists = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=6).map(
    lambda drawn: Listed([(float(begin), float(begin + length)) for begin, length in drawn], 60.0)
)


@given(st.one_of(cycles, lists), st.floats(0, 5000), st.floats(0.001, 500))
@settings(max_examples=150)
def test_what_is_done_when_it_is_finished_is_the_work(sessions: Cycles, began: float, work: float) -> None:
    assert worked(sessions, began, finish(sessions, began, work)) == pytest.approx(work, abs=1e-6)


@given(st.one_of(cycles, lists), st.floats(0, 3000))
@settings(max_examples=80)
def test_sessions_asked_from_a_later_time_are_those_asked_from_the_begin(sessions: Cycles, moment: float) -> None:
    late = list(islice(sessions.since(moment), 5))
    all_of_them = takewhile(lambda one: one[0] <= late[-1][0], sessions.since(0.0))
    assert [one for one in all_of_them if one[1] > moment] == late
    assert all(one[1] <= two[0] for one, two in pairwise(late))


@pytest.mark.parametrize("online", [0.1, 0.5, 0.9])
def test_drawn_sessions_have_their_share_and_their_mean_length(online: float) -> None:
    total = [worked(Cycles(online=online, session_seconds=60, seed=1, client=n), 0.0, 6000.0) for n in range(60)]
    assert sum(total) / (60 * 6000.0) == pytest.approx(online, abs=0.03)
    lengths = [
        end - begin for begin, end in islice(Cycles(online=online, session_seconds=60, seed=1, client=0).since(0), 400)
    ]
    assert sum(lengths) / 400 == pytest.approx(60, rel=0.15)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=9))
def test_merged_sessions_are_apart_and_hold_the_same_seconds(drawn: list[tuple[int, int]]) -> None:
    given_sessions = [(float(begin), float(begin + length)) for begin, length in drawn]
    found = merged(given_sessions)
    seconds = {second for begin, length in drawn for second in range(begin, begin + length)}
    assert {second for begin, end in found for second in range(int(begin), int(end))} == seconds
    assert all(one[1] < two[0] for one, two in pairwise(found))
