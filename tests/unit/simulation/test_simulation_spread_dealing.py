"""Laws of dealing pieces out: each is taken once, in order, whatever comes back when and whoever dies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from archipel.simulation.spread.dealing import LIVES, Dealing


@given(st.integers(0, 30), st.integers(1, 6), st.data())
def test_every_piece_is_taken_once_and_in_order_and_no_place_is_shared(pieces, window, data):
    dealing, out, waiting, taken = Dealing(pieces=pieces, window=window), set(), set(), []
    while not dealing.over:
        while (number := dealing.next()) is not None:
            out.add(number)
            places = [one % window for one in out | waiting]
            assert len(set(places)) == len(places) <= window
        if (number := dealing.ready()) is not None:
            waiting.remove(number)
            taken.append(number)
            dealing.release()
            continue
        number = data.draw(st.sampled_from(sorted(out)))
        out.remove(number)
        if data.draw(st.integers(0, 3)) == 0:
            dealing.lost(number)
        else:
            dealing.done(number)
            waiting.add(number)
    assert taken == list(range(pieces))


def test_a_piece_that_costs_three_processes_is_at_fault_and_others_are_not():
    dealing = Dealing(pieces=2, window=2)
    assert [dealing.next(), dealing.next(), dealing.next()] == [0, 1, None]
    assert dealing.lost(1)
    assert [dealing.lost(0) for _ in range(LIVES)] == [True, True, False]


def test_a_lost_piece_goes_out_before_later_ones():
    dealing = Dealing(pieces=5, window=3)
    assert [dealing.next() for _ in range(3)] == [0, 1, 2]
    dealing.lost(1)
    dealing.done(0)
    dealing.release()
    assert [dealing.next(), dealing.next(), dealing.next()] == [1, 3, None]
