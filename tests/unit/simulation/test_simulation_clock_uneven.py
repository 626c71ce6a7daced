"""Partial work and who is asked, in virtual time: hand-computed histories of a tiny fleet, and their laws."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from clock_fakes import ROWS, Clients, Devices, Targets, job, simulated
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.simulation.clock.devices import Device, Load
from archipel.simulation.clock.fleet import Fleet
from archipel.simulation.clock.oort import Oort
from archipel.simulation.clock.opening import check_buffers, check_time, open_timeline
from archipel.simulation.clock.port import Heard, Moment
from archipel.simulation.clock.selection import Tiers
from archipel.simulation.clock.sessions import Always, Listed
from archipel.simulation.population.port import part_of
from archipel.spec import SpecError, TaskError

LOAD = Load(epochs=1, down_bytes=0, up_bytes=0)
NAMES = "abcdefghijklmnopqrstuvwxyz"


def fleet(seconds: list[float], sessions: Any = None) -> Fleet:
    return Fleet(Clients(NAMES[: len(seconds)]), Devices(seconds, sessions), LOAD, 0)


def timeline(time: dict[str, Any], seconds: list[float], *, cohort: int, moment: Moment | None = None) -> Any:
    known = job(time, cohort=cohort, rounds=3)
    return open_timeline(known, Clients(NAMES[: len(seconds)]), Devices(seconds), LOAD, moment or Moment())


def partial(seconds: list[float], *, cohort: int = 9, moment: Moment | None = None, **more: Any) -> Any:
    return timeline({"mode": "partial", **more}, seconds, cohort=cohort, moment=moment)


def test_a_slow_client_does_what_fits_and_a_very_slow_one_counts_in_a_later_round() -> None:
    """Rounds of 10 s; ten rows take a 5 s, b 20 s and c 300 s; everybody does three rows at the least.

    0   a does ten rows by 5, b five rows by 10, c three rows by 90          10  a and b; c is late
    10  a and b again                                                        20  a and b
    """
    rounds = partial([5, 20, 300], deadline_seconds=10.0, least_share=0.3)
    first, second, third = (rounds.close(step) for step in (1, 2, 3))
    assert [(one.client, one.rows, one.ends) for one in first.folded] == [(0, 10, 5.0), (1, 5, 10.0)]
    assert (first.asked, second.asked, third.asked) == (3, 2, 2)
    assert [(closed.began, closed.ended) for closed in (first, second, third)] == [(0, 10), (10, 20), (20, 30)]
    assert first.waste.clients == second.waste.clients == 0
    # c has worked for 30 of the 90 seconds that its three rows take.
    assert (third.waste.clients, third.waste.seconds, third.waste.examples) == (1, 30.0, 1)


def test_who_is_late_is_folded_when_it_answers_and_counts_less(tmp_path: Path) -> None:
    """Rounds of 10 s; c's three rows take 15 s, so its update of round 1 is there in round 2."""
    time = {"mode": "partial", "deadline_seconds": 10.0, "least_share": 0.3}
    adapter = Targets({"a": 1.0, "b": 2.0, "c": 4.0})
    weight, records = simulated(job(time, cohort=3, rounds=2), adapter, Devices([5, 20, 50]), "abc", tmp_path)
    one = (10 * 1.0 + 5 * 2.0) / 15
    # The late one first: it is of the first model. c has three rows, a ten and b five.
    two = one + (3 * 4.0 / np.sqrt(2) + 10 * (1.0 - one) + 5 * (2.0 - one)) / 18
    assert weight == pytest.approx(two, abs=1e-12)
    assert [record.examples for record in records] == [15, 18]
    assert [record.simulated.staleness for record in records if record.simulated] == [(2,), (2, 1)]
    rows = {(plan.client, len(plan.rows)) for plan in adapter.plans if plan.rows is not None}
    assert rows == {("a", 10), ("b", 5), ("c", 3)}


def test_a_round_in_which_all_have_answered_is_over() -> None:
    rounds = partial([1, 2, 3], deadline_seconds=100.0)
    assert [rounds.close(step).ended for step in (1, 2)] == [3.0, 6.0]


def test_a_round_is_as_long_as_the_asked_share_of_clients_take() -> None:
    # Of ten clients seven are done within 7 s.
    rounds = partial([float(n) for n in range(1, 11)], cohort=10, deadline_quantile=0.7)
    assert rounds.close(1).ended == 7.0


def test_what_fits_leaves_time_to_receive_and_to_send() -> None:
    load = Load(epochs=2, down_bytes=1_000_000, up_bytes=500_000)
    device = Device(seconds_per_example=0.5, down_mbps=8.0, up_mbps=4.0, sessions=Always())
    # 1 s down, 1 s up, 1 s a row in two epochs.
    assert [device.fitting(load, 0.0, until, 10) for until in (1.9, 2.0, 3.0, 6.5, 12.0, 99.0)] == [0, 0, 1, 4, 10, 10]
    away = Device(seconds_per_example=0.5, down_mbps=8.0, up_mbps=4.0, sessions=Listed([(5.0, 100.0)], 100.0))
    assert away.fitting(load, 0.0, 10.0, 10) == 3


slow = st.lists(st.integers(1, 400).map(float), min_size=1, max_size=12)


@given(slow, st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_partial_rounds_that_were_interrupted_anywhere_go_on_as_if_they_had_not_been(
    seconds: list[float], cohort: int, at: int
) -> None:
    given_ = {"deadline_seconds": 20.0, "least_share": 0.2}
    whole = partial(seconds, cohort=cohort, **given_)
    expected = [whole.close(step) for step in range(1, 15)]
    before = partial(seconds, cohort=cohort, **given_)
    got = [before.close(step) for step in range(1, at + 1)]
    moment = msgspec.json.decode(msgspec.json.encode(before.moment), type=Moment)
    after = partial(seconds, cohort=cohort, moment=moment, **given_)
    assert [*got, *(after.close(step) for step in range(at + 1, 15))] == expected


@given(slow, st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_in_partial_rounds_every_assignment_is_folded_once_in_the_round_it_ends_in(
    seconds: list[float], cohort: int
) -> None:
    rounds = partial(seconds, cohort=cohort, deadline_seconds=20.0, least_share=0.2)
    closed = [rounds.close(step) for step in range(1, 20)]
    assert all(one.ended == two.began for one, two in pairwise(closed))
    folded = [(each, one) for each in closed for one in each.folded]
    assert len({one.number for _, one in folded}) == len(folded)
    assert all(each.began < one.ends <= each.ended for each, one in folded)
    assert all(2 <= one.rows <= ROWS for _, one in folded)
    assert len(folded) + len(rounds.moment.flying) == rounds.moment.numbered
    assert len({one.client for one in rounds.moment.flying}) == len(rounds.moment.flying)


def test_partial_work_hears_the_slowest_tenth_where_over_selection_does_not() -> None:
    seconds = [float(2 ** (n % 10)) for n in range(20)]
    shares = []
    for time in ({"mode": "partial", "deadline_quantile": 0.5}, {"mode": "deadline", "over_selection": 2.0}):
        rounds = timeline(time, seconds, cohort=6)
        closed = [rounds.close(step) for step in range(1, 400)]
        shares.append(sum(one.slow for one in closed) / sum(len(one.folded) for one in closed))
    assert shares[0] > 0.05
    assert shares[1] == 0


def test_the_slowest_tenth_is_told_only_where_clients_differ() -> None:
    assert fleet([3.0] * 10).slow(()) is None
    uneven = fleet([float(n) for n in range(1, 11)])
    assert uneven.slow([uneven.give(client, step=1, now=0.0) for client in (0, 8, 9)]) == 1


def test_a_tier_is_asked_alone_and_slow_ones_less_often() -> None:
    """Four tiers of five: 1, 2, 4 and 8 s. With bias 1 they are asked in the ratio 8 to 4 to 2 to 1."""
    uneven = fleet([float(2 ** (n // 5)) for n in range(20)])
    tiers = Tiers(uneven, tiers=4, bias=1.0)
    asked = [tiers.choose(step, 3, 0.0) for step in range(1, 3001)]
    assert all(len({client // 5 for client in cohort}) == 1 and len(cohort) == 3 for cohort in asked)
    counts = Counter(cohort[0] // 5 for cohort in asked)
    for tier, chance in enumerate((8, 4, 2, 1)):
        assert counts[tier] / 3000 == pytest.approx(chance / 15, abs=0.03)
    fair = Counter(Tiers(uneven, tiers=4, bias=0.0).choose(step, 3, 0.0)[0] // 5 for step in range(1, 3001))
    assert all(count / 3000 == pytest.approx(0.25, abs=0.03) for count in fair.values())


def test_a_tier_that_has_fewer_gives_fewer() -> None:
    tiers = Tiers(fleet([1.0, 2.0, 3.0, 4.0]), tiers=2, bias=0.0)
    assert {tuple(tiers.choose(step, 3, 0.0)) for step in range(1, 50)} == {(0, 1), (2, 3)}
    assert {tuple(tiers.choose(step, 3, 0.0, busy={0, 3})) for step in range(1, 50)} == {(1,), (2,)}


def told(*utilities: float) -> tuple[Heard, ...]:
    return tuple(Heard(client=client, step=1, utility=utility) for client, utility in enumerate(utilities))


def oort(seconds: list[float], heard: tuple[Heard, ...], **more: Any) -> Oort:
    return Oort(fleet(seconds), **{"preferred": 0.5, "slow_penalty": 2.0, **more}, heard=heard)


def test_guided_selection_asks_the_useful_and_the_quick() -> None:
    """At step 200 a fifth is new; of those known the best by utility, and of equal ones the quick."""
    chosen = oort([1.0] * 20, told(*[0.1] * 8, 5.0, 5.0)).choose(200, 2, 0.0)
    assert set(chosen) <= {8, 9, *range(10, 20)}
    quick = oort([1.0] * 4 + [50.0] * 4, told(*[3.0] * 8))
    asked = Counter(client for step in range(100, 200) for client in quick.choose(step, 2, 0.0))
    assert set(asked) == {0, 1, 2, 3}
    patient = oort([1.0] * 4 + [50.0] * 4, told(*[3.0] * 8), slow_penalty=0.0)
    assert len({client for step in range(100, 200) for client in patient.choose(step, 2, 0.0)}) == 8


def test_guided_selection_begins_with_strangers_and_fills_a_cohort() -> None:
    assert len(oort([1.0] * 10, ()).choose(1, 4, 0.0)) == 4
    assert oort([1.0] * 3, told(1.0)).choose(1, 5, 0.0) == [0, 1, 2]
    assert 0 not in oort([1.0] * 10, told(1.0)).choose(5, 9, 0.0, busy={0})


def test_guided_selection_goes_by_what_clients_told_and_resumes(tmp_path: Path) -> None:
    time = {"mode": "synchronous", "selection": {"kind": "oort"}}
    first = timeline(time, [1.0, 2.0, 3.0, 4.0], cohort=2)
    assert first.listens
    closed = first.close(1)
    first.hear(1, {one.client: 0.5 for one in closed.folded})
    moment = msgspec.json.decode(msgspec.json.encode(first.moment), type=Moment)
    assert [one.utility for one in moment.heard] == [5.0, 5.0]
    second = timeline(time, [1.0, 2.0, 3.0, 4.0], cohort=2, moment=moment)
    assert second.close(2) == first.close(2)
    _, records = simulated(job(time), Targets(dict.fromkeys("abcd", 1.0)), Devices([1, 2, 3, 4]), "abcd", tmp_path)
    assert [record.clients for record in records] == [2, 2, 2]


@pytest.mark.parametrize("kind", ["uniform", "tiers", "oort"])
@pytest.mark.parametrize("mode", ["synchronous", "deadline", "partial"])
def test_every_selection_goes_with_every_kind_of_rounds(mode: str, kind: str, tmp_path: Path) -> None:
    time = {"mode": mode, "selection": {"kind": kind}}
    names = NAMES[:12]
    seconds = [float(n + 1) for n in range(12)]
    runs = [
        simulated(job(time, cohort=2), Targets(dict.fromkeys(names, 1.0)), Devices(seconds), names, tmp_path / str(n))
        for n in range(2)
    ]
    weights = [weight for weight, _ in runs]
    assert weights[0] == weights[1]
    assert all(record.clients for record in runs[0][1])


def test_a_part_of_a_clients_rows_is_drawn_by_the_seed_and_is_not_more_than_it_has() -> None:
    rows = np.arange(100, 120)
    some = part_of(rows, 7, (3, 1))
    assert len(set(some.tolist())) == 7
    assert set(some.tolist()) <= set(rows.tolist())
    assert (some == part_of(rows, 7, (3, 1))).all()
    assert set(some.tolist()) != set(part_of(rows, 7, (3, 2)).tolist())
    assert part_of(rows, None, (3, 1)) is rows
    assert part_of(rows, 99, (3, 1)) is rows


@pytest.mark.parametrize(("federation", "message"), [
    ({"algorithm": "scaffold"}, 'scaffold cannot go with mode = "partial"'),
    ({"robust": {"tolerate": 1}}, r'\[federation.robust\] cannot go with mode = "partial"'),
])  # fmt: skip
def test_what_compares_updates_of_one_model_cannot_go_with_late_ones(federation: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check_time(job({"mode": "partial"}, **federation))


def test_running_statistics_are_not_scaled_by_their_age() -> None:
    with pytest.raises(TaskError, match='mode = "partial" would scale'):
        check_buffers(job({"mode": "partial"}), ["norm.running_mean"])


def test_fedbuff_chooses_nobody() -> None:
    with pytest.raises(SpecError, match="selection"):
        job({"mode": "fedbuff", "selection": {"kind": "oort"}})
