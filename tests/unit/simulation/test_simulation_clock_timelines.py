"""Rounds, deadlines and FedBuff in virtual time: hand-computed histories of a tiny fleet, and their laws."""

from __future__ import annotations

import math
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clock_fakes import Clients, Devices, Targets, job, simulated
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.simulation.clock.devices import Drawn, Load
from archipel.simulation.clock.drawing import draw_available
from archipel.simulation.clock.fedbuff import Buffered, staleness_scale
from archipel.simulation.clock.fleet import Fleet
from archipel.simulation.clock.opening import check_buffers, check_time, open_timeline
from archipel.simulation.clock.port import Closed, Moment
from archipel.simulation.clock.rounds import over_selected
from archipel.simulation.clock.sessions import Always, Listed
from archipel.simulation.population.partitions import Uniform
from archipel.spec import SpecError, TaskError
from archipel.spec.timing import Deadline, DeviceSpec

LOAD = Load(epochs=1, down_bytes=0, up_bytes=0)
TARGETS = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}


def told(closed: Closed) -> tuple[float, list[tuple[int, int, int]]]:
    return closed.ended, [(one.client, one.step, one.again) for one in closed.folded]


def fedbuff(seconds: list[float], *, buffer: int, rounds: int = 99, moment: Moment | None = None) -> Buffered:
    names = "abcdefgh"[: len(seconds)]
    return Buffered(
        Fleet(Clients(names), Devices(seconds), LOAD, 0),
        concurrency=len(seconds),
        buffer=buffer,
        rounds=rounds,
        moment=moment or Moment(),
    )


def test_fedbuff_over_three_clients_is_the_history_worked_out_by_hand() -> None:
    """Clients a, b and c take 2, 3 and 7 seconds; two updates make a model.

    0  a, b, c begin          2  a lands, begins again        3  b lands: model 1, b begins from it
    4  a lands (of model 0), begins from model 1              6  b and a land; b was given its work first: model 2
    6  a waits in the buffer; a and b begin from model 2      7  c lands (of model 0): model 3
    """
    timeline = fedbuff([2, 3, 7], buffer=2, rounds=3)
    first, second, third = (timeline.close(step) for step in (1, 2, 3))
    assert told(first) == (3.0, [(0, 1, 0), (1, 1, 0)])
    assert told(second) == (6.0, [(0, 1, 1), (1, 2, 0)])
    assert told(third) == (7.0, [(2, 1, 0), (0, 2, 0)])
    assert [closed.asked for closed in (first, second, third)] == [4, 2, 2]
    assert [closed.worked_seconds for closed in (first, second, third)] == [5.0, 5.0, 9.0]
    # a and b are a second into their last work: 10 rows * 1/2 and * 1/3.
    assert (third.waste.clients, third.waste.seconds, third.waste.examples) == (2, pytest.approx(2.0), 5 + 3)
    assert first.waste.clients == second.waste.clients == 0


def test_fedbuff_adds_stale_updates_scaled_to_the_model_of_the_day(tmp_path: Path) -> None:
    """The weights of the history above; a, b and c train to 1, 2 and 4."""
    adapter = Targets(TARGETS)
    time = {"mode": "fedbuff", "concurrency": 3, "buffer": 2}
    weight, records = simulated(job(time), adapter, Devices([2, 3, 7]), "abc", tmp_path)
    one = (1 + 2) / 2
    two = one + ((1 - 0) / math.sqrt(2) + (2 - one)) / 2
    three = two + ((4 - 0) / math.sqrt(3) + (1 - one) / math.sqrt(2)) / 2
    assert weight == pytest.approx(three, abs=1e-12)
    times = [record.simulated for record in records if record.simulated]
    assert [one.staleness for one in times] == [(2,), (1, 1), (0, 1, 1)]
    assert [one.at_seconds for one in times] == [3.0, 6.0, 7.0]
    assert [record.examples for record in records] == [20, 20, 20]
    # The second time that a trains from the first model, it draws other batches.
    assert [plan.seed for plan in adapter.plans if plan.client == "a"][1] == (*adapter.plans[0].seed, 1)


def test_the_servers_rate_scales_the_step(tmp_path: Path) -> None:
    time = {"mode": "fedbuff", "concurrency": 3, "buffer": 2, "server_learning_rate": 0.5}
    weight, _ = simulated(job(time, rounds=1), Targets(TARGETS), Devices([2, 3, 7]), "abc", tmp_path)
    assert weight == pytest.approx((1 + 2) / 2 * 0.5)


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox", "fedyogi"])
def test_fedbuff_over_equal_devices_with_everybody_in_the_buffer_is_synchronous(
    tmp_path: Path, weighting: Any, algorithm: str
) -> None:
    devices = Devices([5.0] * 4)
    federation = {"weighting": weighting, "algorithm": algorithm, "rounds": 6, "cohort": 4}
    buffered = {"mode": "fedbuff", "concurrency": 4, "buffer": 4}
    one, rounds = simulated(job({"mode": "synchronous"}, **federation), Targets(TARGETS), devices, "abcd", tmp_path)
    other, models = simulated(job(buffered, **federation), Targets(TARGETS), devices, "abcd", tmp_path)
    untimed, _ = simulated(job(None, **federation), Targets(TARGETS), None, "abcd", tmp_path)
    assert one == other == untimed
    assert [record.simulated.at_seconds for record in rounds if record.simulated] == [5, 10, 15, 20, 25, 30]
    assert [record.simulated for record in rounds] == [record.simulated for record in models]


durations = st.lists(st.integers(1, 9).map(float), min_size=1, max_size=8)


@given(durations, st.integers(1, 6), st.integers(1, 12))
@settings(max_examples=80)
def test_a_fedbuff_that_was_interrupted_anywhere_goes_on_as_if_it_had_not_been(
    seconds: list[float], buffer: int, at: int
) -> None:
    whole = fedbuff(seconds, buffer=buffer)
    expected = [whole.close(step) for step in range(1, 15)]
    before = fedbuff(seconds, buffer=buffer)
    got = [before.close(step) for step in range(1, at + 1)]
    moment = msgspec.json.decode(msgspec.json.encode(before.moment), type=Moment)
    after = fedbuff(seconds, buffer=buffer, moment=moment)
    assert [*got, *(after.close(step) for step in range(at + 1, 15))] == expected


@given(durations, st.integers(1, 6))
@settings(max_examples=80)
def test_in_fedbuff_time_never_goes_back_and_every_assignment_is_folded_once(seconds: list[float], buffer: int) -> None:
    timeline = fedbuff(seconds, buffer=buffer)
    closed = [timeline.close(step) for step in range(1, 20)]
    assert all(one.ended == two.began for one, two in pairwise(closed))
    assert all(one.began <= one.ended for one in closed)
    folded = [one for each in closed for one in each.folded]
    assert len({one.number for one in folded}) == len(folded) == 19 * buffer
    assert all(one.ends == one.began + seconds[one.client] for one in folded)
    assert all(each.step - one.step >= 0 for each in closed for one in each.folded)
    assert len(timeline.moment.flying) + len(folded) == timeline.moment.numbered
    assert len({one.client for one in timeline.moment.flying}) == len(timeline.moment.flying)


def test_an_update_counts_less_the_older_it_is() -> None:
    assert [staleness_scale(age) for age in (0, 3, 8)] == [1.0, 0.5, pytest.approx(1 / 3)]


def rounds(time: dict[str, Any], seconds: list[float], *, cohort: int, sessions: Any = None) -> Any:
    known = job({"mode": "deadline", **time}, cohort=cohort)
    devices = Devices(seconds, sessions)
    return open_timeline(known, Clients("abcd"[: len(seconds)]), devices, LOAD, Moment())


def test_an_over_selected_round_ends_with_the_last_answer_it_needs() -> None:
    timeline = rounds({"over_selection": 2.0}, [2, 20, 7, 3], cohort=2)
    closed = timeline.close(1)
    assert told(closed) == (3.0, [(0, 1, 0), (3, 1, 0)])
    # b and c are stopped after 3 of 20 and 3 of 7 seconds.
    assert (closed.asked, closed.waste.clients, closed.waste.seconds) == (4, 2, pytest.approx(6.0))
    assert closed.waste.examples == 1 + 4
    assert closed.worked_seconds == 5.0
    assert told(timeline.close(2)) == (6.0, [(0, 2, 0), (3, 2, 0)])


@pytest.mark.parametrize(("deadline", "ended", "clients"), [
    (1.0, 1.0, []), (2.0, 2.0, [0]), (2.9, 2.9, [0]), (3.0, 3.0, [0, 3]), (6.9, 6.9, [0, 3]), (90.0, 7.0, [0, 2, 3]),
])  # fmt: skip
def test_at_the_deadline_whoever_has_answered_is_folded(deadline: float, ended: float, clients: list[int]) -> None:
    closed = rounds({"deadline_seconds": deadline}, [2, 20, 7, 3], cohort=3).close(1)
    assert (closed.ended, [one.client for one in closed.folded]) == (ended, clients)
    assert (closed.asked, closed.waste.clients) == (4, 4 - len(clients))


@pytest.mark.parametrize(("cohort", "times", "asked"), [(10, 1.1, 11), (10, 1.3, 13), (3, 1.3, 4), (50, 1.0, 50)])
def test_over_selection_is_rounded_up_to_a_whole_client(cohort: int, times: float, asked: int) -> None:
    assert over_selected(Deadline(over_selection=times), cohort) == asked


def test_of_two_that_answer_at_once_the_first_by_number_is_taken() -> None:
    closed = rounds({"over_selection": 4.0}, [5, 5, 5, 5], cohort=1).close(1)
    assert told(closed) == (5.0, [(0, 1, 0)])


def test_a_round_that_nobody_made_leaves_the_model_and_the_next_is_the_first(tmp_path: Path) -> None:
    """FedAdam begins its second moment at tau^2 with the first model, which is that of round 2."""
    sessions = [Listed([(10.0, 100.0)], 100.0)] * 2
    known = job(
        {"mode": "deadline", "deadline_seconds": 9.0, "over_selection": 1.0},
        rounds=2,
        algorithm="fedadam",
        options={"server_learning_rate": 0.5, "beta1": 0.9, "beta2": 0.99, "tau": 0.001},
    )
    weight, records = simulated(known, Targets({"a": 2.0, "b": 4.0}), Devices([1, 2], sessions), "ab", tmp_path)
    first, second = records
    assert (first.clients, first.examples, first.steps, first.loss) == (0, 0, 0, None)
    assert first.simulated
    assert (first.simulated.at_seconds, first.simulated.staleness) == (9.0, ())
    assert second.simulated
    assert second.simulated.at_seconds == 12.0
    momentum, variance = 0.1 * 3.0, 0.99 * 0.001**2 + 0.01 * 9.0
    assert weight == pytest.approx(0.5 * momentum / (math.sqrt(variance) + 0.001))


def test_scaffold_goes_with_a_deadline(tmp_path: Path) -> None:
    time = {"mode": "deadline", "over_selection": 2.0}
    weight, records = simulated(
        job(time, algorithm="scaffold"), Targets(TARGETS), Devices([2, 3, 9, 9]), "abcd", tmp_path
    )
    assert weight == 1.5
    assert [record.clients for record in records] == [2, 2, 2]


def test_synchronous_rounds_last_as_long_as_their_slowest_client() -> None:
    known = job({"mode": "synchronous"}, cohort=3)
    timeline = open_timeline(known, Clients("abc"), Devices([2, 20, 7]), LOAD, Moment())
    assert [told(timeline.close(step))[0] for step in (1, 2)] == [20.0, 40.0]


def test_those_who_are_there_are_asked_and_after_them_those_who_come_first() -> None:
    sessions = [Listed([(float(late), 90.0)], 90.0) for late in (5, 0, 3, 0, 8)]
    fleet = Devices([1.0] * 5, sessions)
    drawn = [draw_available(Clients("abcde"), fleet, 2, seed=1, number=n, now=0.0) for n in range(9)]
    assert drawn == [[1, 3]] * 9
    assert draw_available(Clients("abcde"), fleet, 3, seed=1, number=0, now=0.0) == [1, 2, 3]
    assert draw_available(Clients("abcde"), fleet, 3, seed=1, number=0, now=0.0, busy={1, 2}) == [0, 3, 4]
    assert draw_available(Clients("abcde"), fleet, 9, seed=1, number=0, now=0.0) == [0, 1, 2, 3, 4]
    everybody = {tuple(draw_available(Clients("abcde"), fleet, 2, seed=1, number=n, now=8.0)) for n in range(99)}
    assert len(everybody) == 10


def test_a_million_clients_take_no_more_memory_than_a_thousand() -> None:
    def peak(clients: int, time: dict[str, Any]) -> int:
        known = job(time, cohort=20, rounds=20)
        spec = msgspec.structs.replace(known.simulation, clients=clients)
        fleet = Drawn(DeviceSpec(speed_sigma=1.0, online=0.3, session_seconds=5.0), 0)
        tracemalloc.start()
        timeline = open_timeline(known, Uniform(spec, 0, 500), fleet, LOAD, Moment())
        for step in range(1, 6):
            timeline.close(step)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    for time in ({"mode": "fedbuff", "buffer": 5}, {"mode": "deadline", "deadline_seconds": 3.0}):
        peak(1000, time)
        assert peak(1_000_000, time) < peak(1000, time) + 100_000


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"mode": "fedbuff"}, {"algorithm": "scaffold"}, 'scaffold cannot go with mode = "fedbuff"'),
    ({"mode": "fedbuff"}, {"robust": {"tolerate": 1}}, r'\[federation.robust\] cannot go with mode = "fedbuff"'),
    (
        {"mode": "fedbuff", "server_learning_rate": 0.5},
        {"algorithm": "fedadam"},
        "fedadam has a server step of its own",
    ),
    (
        {"mode": "fedbuff", "server_learning_rate": 0.5},
        {"algorithm": "fedavgm", "options": {"momentum": 0.5}},
        "fedavgm has a server step of its own",
    ),
    ({"mode": "synchronous", "devices": {"assign": "name"}}, {}, 'assign = "name" needs a trace'),
]


@pytest.mark.parametrize(("time", "federation", "message"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_cannot_go_together_is_refused_by_name(
    time: dict[str, Any], federation: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        check_time(job(time, **federation))
    assert caught.value.hint


@pytest.mark.parametrize("time", [None, {"mode": "synchronous"}, {"mode": "deadline"}])
def test_every_algorithm_goes_with_rounds(time: dict[str, Any] | None) -> None:
    for algorithm in ("fedavg", "fedprox", "scaffold", "fedadam", "fedyogi", "fedavgm"):
        check_time(job(time, algorithm=algorithm))
        check_buffers(job(time, algorithm=algorithm), ["norm.running_mean"])


def test_running_statistics_are_not_scaled_by_staleness() -> None:
    with pytest.raises(TaskError, match=r"running statistics \('norm.running_mean'\)"):
        check_buffers(job({"mode": "fedbuff"}), ["norm.running_mean"])
    check_buffers(job({"mode": "fedbuff"}), [])


def test_a_client_is_always_available_without_a_word_on_it() -> None:
    assert isinstance(Drawn(DeviceSpec(), 0).device(3).sessions, Always)
