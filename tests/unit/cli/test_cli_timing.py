"""Virtual time in words, and the time at which a figure was first as good as at the end."""

from __future__ import annotations

from typing import Any

import pytest

from archipel.cli.timing import TimeTold, describe_rounds
from archipel.simulation.clock.report import RoundTime, reached
from archipel.simulation.virtual import RoundRecord
from archipel.spec.job import SimulationSpec
from archipel.spec.timing import Deadline, FedBuff, Synchronous


def record(step: int, staleness: tuple[int, ...], figures: dict[str, float] | None = None, **time: Any) -> RoundRecord:
    simulated = RoundTime(
        at_seconds=step * 100.0,
        seconds=100.0,
        asked=9,
        staleness=staleness,
        **{"worked_seconds": 30.0, "wasted_clients": 0, "wasted_examples": 0, "wasted_seconds": 0.0, **time},
    )
    return RoundRecord(
        step=step, clients=3, examples=30, steps=3, loss=1.0, seconds=0.1, figures=figures, simulated=simulated
    )


def test_rounds_are_added_up_and_told() -> None:
    records = [
        record(1, (3,), {"accuracy": 0.8, "log_loss": 0.4, "examples": 7}),
        record(2, (1, 1, 1), {"accuracy": 0.9, "log_loss": 0.5, "examples": 7}),
        record(3, (), wasted_clients=2, wasted_examples=12, wasted_seconds=10.0),
        record(4, (1, 0, 2), {"accuracy": 0.85, "log_loss": 0.3, "examples": 7}),
    ]
    told = TimeTold.of("fedbuff", records)
    # 9 updates: five of age 0, one of age 1 and three of age 2.
    assert told.total.staleness == (5, 1, 3)
    assert told.total.staleness_mean == pytest.approx(7 / 9)
    assert told.total.staleness_max == 2
    assert told.reached_seconds == {"accuracy": 200.0, "log_loss": 400.0}
    assert told.wasted_share == pytest.approx(10 / 130)
    assert told.lines() == [
        "simulated time: 6 min 40 s; nobody answered in 1 of 4 rounds",
        "staleness: mean 0.78, max 2; updates by age 0: 5, 1: 1, 2: 3",
        "wasted: 8 % of the clients' work: 10 s, 12 examples of 2 clients",
        "as good as at the end after: accuracy 3 min 20 s, log_loss 6 min 40 s",
    ]


def test_rare_ages_are_told_as_one_and_nothing_is_told_of_what_there_was_not() -> None:
    told = TimeTold.of("fedbuff", [record(1, (*range(1, 12),))]).lines()
    assert told[1].endswith("7: 8, 8 and more: 30")
    empty = TimeTold.of("deadline", [record(1, ())])
    assert empty.total.staleness_mean is empty.total.staleness_max is None
    assert empty.lines() == ["simulated time: 1 min 40 s; nobody answered in 1 of 1 rounds"]


def test_a_figure_is_reached_when_it_is_first_as_good_as_at_the_end() -> None:
    course = [(1.0, 0.2), (2.0, 0.7), (3.0, 0.6), (4.0, 0.6)]
    assert reached(course, lower_is_better=False) == 2.0
    assert reached(course, lower_is_better=True) == 1.0
    assert reached([], lower_is_better=True) is None


@pytest.mark.parametrize(("time", "said"), [
    (None, "50 a round"),
    (Synchronous(), "50 a round"),
    (Deadline(over_selection=1.5), "75 a round, which ends with 50 answers"),
    (Deadline(over_selection=1.0, deadline_seconds=90), "50 a round, which ends with 50 answers or after 1 min 30 s"),
    (FedBuff(), "50 at work, a model each 10 updates"),
    (FedBuff(concurrency=2000, buffer=1000), "2,000 at work, a model each 1,000 updates"),
])  # fmt: skip
def test_what_a_round_is_is_said_in_words(time: Any, said: str) -> None:
    assert describe_rounds(SimulationSpec(time=time), 10_000) == said


def test_a_small_population_is_asked_as_a_whole() -> None:
    assert describe_rounds(SimulationSpec(), 7) == "7 a round"
    assert describe_rounds(SimulationSpec(time=FedBuff()), 7) == "7 at work, a model each 10 updates"
    assert describe_rounds(SimulationSpec(time=Deadline()), 7) == "7 a round, which ends with 7 answers"
