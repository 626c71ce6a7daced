"""A fleet shared by jobs: small cases by hand, small instances against all there are, and what waiting is worth."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.planner.sharing import Aging, Contender, Rules, share_fleet
from archipel.spec.errors import ArchipelError, InfeasibleError, SpecError, UnknownNameError

NO_AGING = Rules(interval=10, aging=Aging(power=0), stickiness=0.0)


def test_each_job_goes_where_it_is_worth_most_by_hand():
    # On the fast kind a does 10/100 of its work in an interval and b 15/100; on the slow kind 1/100 and 10/100.
    # 0.1 + 0.1 beats 0.15 + 0.01, though b is the faster of the two on the fast kind.
    a = Contender(job="a", remaining=100, rates={"fast": 1.0, "slow": 0.1})
    b = Contender(job="b", remaining=100, rates={"fast": 1.5, "slow": 1.0})
    shared = share_fleet([a, b], {"fast": 1, "slow": 1}, rules=NO_AGING)
    assert shared.placed == {"a": "fast", "b": "slow"}
    assert (shared.value, shared.bound) == (pytest.approx(0.2), pytest.approx(0.2))


def test_two_short_jobs_go_before_one_long_that_needs_both_devices():
    short = [Contender(job=name, remaining=40, rates={"gpu": 1.0}) for name in ("a", "b")]
    long = Contender(job="long", remaining=50, rates={"gpu": 1.5}, devices=2)  # 0.3 beside 0.25 each
    assert share_fleet([long, *short], {"gpu": 2}, rules=NO_AGING).placed == {"a": "gpu", "b": "gpu"}
    assert share_fleet([replace(long, weight=2), *short], {"gpu": 2}, rules=NO_AGING).placed == {"long": "gpu"}


def test_a_job_that_ends_within_the_interval_is_worth_no_more_than_its_end():
    nearly = Contender(job="nearly", remaining=0.1, rates={"gpu": 1.0})  # ends 100 times over
    heavy = Contender(job="heavy", remaining=10, rates={"gpu": 1.0}, weight=2)  # ends once
    assert share_fleet([nearly, heavy], {"gpu": 1}, rules=NO_AGING).placed == {"heavy": "gpu"}


def test_for_the_makespan_the_longest_goes_first_and_where_it_is_fast():
    rules = Rules(objective="makespan", stickiness=0.0)
    jobs = [
        Contender(job="short", remaining=10, rates={"fast": 1.0, "slow": 0.5}),
        Contender(job="long", remaining=100, rates={"fast": 1.0, "slow": 0.5}),
        Contender(job="middle", remaining=50, rates={"fast": 1.0, "slow": 0.5}),
    ]
    shared = share_fleet(jobs, {"fast": 1, "slow": 1}, rules=rules)
    assert shared.placed == {"long": "fast", "middle": "slow"}
    assert shared.value == pytest.approx(100 + 25)


@pytest.mark.parametrize(("stickiness", "stays"), [(0.0, False), (0.05, False), (0.2, True)])
def test_a_job_stays_where_it_runs_unless_another_is_worth_more_than_the_move(stickiness, stays):
    rules = replace(NO_AGING, stickiness=stickiness)
    jobs = [
        Contender(job="running", remaining=100, rates={"gpu": 1.0}, running_on="gpu"),
        Contender(job="waiting", remaining=90, rates={"gpu": 1.0}),  # worth 11 % more
    ]
    assert share_fleet(jobs, {"gpu": 1}, rules=rules).placed == {"running" if stays else "waiting": "gpu"}


def intervals_until_served(aging: Aging, most: int = 300) -> int | None:
    """A job of 100 intervals beside short ones, of which a new one comes in each interval, on one device."""
    rules = Rules(interval=10, aging=aging)
    for interval in range(most):
        long = Contender(job="long", remaining=1000, rates={"gpu": 1.0}, age=10.0 * interval)
        short = Contender(job="short", remaining=10, rates={"gpu": 1.0})
        if "long" in share_fleet([long, short], {"gpu": 1}, rules=rules).placed:
            return interval
    return None


def test_a_stream_of_short_jobs_keeps_a_long_one_out_only_without_aging():
    assert intervals_until_served(Aging(power=0)) is None
    # Worth (1 + age / 20) / 100 beside 1: more from an age of 1,980 s on, at which the two are equal.
    assert intervals_until_served(Aging(seconds=20)) in {198, 199}
    assert intervals_until_served(Aging(seconds=20, power=2)) in {18, 19}  # (1 + 180 / 20)^2 = 100


@st.composite
def instances(draw):
    """Up to five jobs on up to three kinds; each job fits somewhere."""
    fleet = {f"kind{at}": draw(st.integers(1, 4)) for at in range(draw(st.integers(1, 3)))}
    contenders = []
    for at in range(draw(st.integers(1, 5))):
        rates = {kind: float(draw(st.integers(0, 5))) for kind in fleet}
        widest = max(fleet, key=lambda kind: fleet[kind])
        rates[widest] = max(rates[widest], 1.0)
        contenders.append(
            Contender(
                job=f"job{at}",
                remaining=float(draw(st.integers(1, 4000))),
                rates=rates,
                devices=draw(st.integers(1, fleet[widest])),
                weight=float(draw(st.integers(1, 4))),
                age=float(draw(st.integers(0, 20_000))),
                running_on=draw(st.sampled_from([None, *fleet])),
            )
        )
    return contenders, fleet


def worth(contender, kind, fleet, rules):
    """What a job is worth on a kind, written out a second time; None: it does not fit there."""
    if not contender.rates[kind] or contender.devices > fleet[kind]:
        return None
    stays = 1.05 if contender.running_on == kind else 1.0
    if rules.objective == "makespan":
        fastest = max(rate for other, rate in contender.rates.items() if contender.devices <= fleet[other])
        return stays * contender.devices * contender.remaining * contender.rates[kind] / fastest**2
    return (
        stays
        * contender.weight
        * (1 + contender.age / 7200)
        * min(1, 360 * contender.rates[kind] / contender.remaining)
    )


def brute_force(contenders, fleet, rules):
    """The most that any placement which fits is worth."""
    gain = [{kind: worth(contender, kind, fleet, rules) for kind in fleet} for contender in contenders]
    best = 0.0
    for chosen in itertools.product([None, *fleet], repeat=len(contenders)):
        used = dict.fromkeys(fleet, 0)
        for contender, kind in zip(contenders, chosen, strict=True):
            if kind is not None:
                used[kind] += contender.devices
        gains = [0.0 if kind is None else of[kind] for of, kind in zip(gain, chosen, strict=True)]
        if all(used[kind] <= fleet[kind] for kind in fleet) and None not in gains:
            best = max(best, sum(gains))
    return best


@settings(max_examples=60, deadline=None)
@given(instances(), st.sampled_from(["weighted-completion", "makespan"]))
def test_small_fleets_are_shared_as_by_brute_force(instance, objective):
    contenders, fleet = instance
    rules = Rules(objective=objective)
    shared = share_fleet(contenders, fleet, rules=rules)
    assert shared.value == pytest.approx(brute_force(contenders, fleet, rules))
    assert shared.gap == pytest.approx(0.0, abs=1e-6)
    for kind, count in fleet.items():
        assert sum(contender.devices for contender in contenders if shared.placed.get(contender.job) == kind) <= count


def test_jobs_with_years_to_go_are_told_apart():
    long = [Contender(job=f"job{at}", remaining=1e12 + at * 1e11, rates={"gpu": 1.0}) for at in range(8)]
    assert share_fleet(long, {"gpu": 3}).placed == {"job0": "gpu", "job1": "gpu", "job2": "gpu"}


def test_a_search_without_time_says_how_far_off_it_may_be():
    jobs = [
        Contender(job=f"job{at}", remaining=1000 + at, rates={"a": 1.0, "b": 0.7}, devices=1 + at % 3)
        for at in range(60)
    ]
    shared = share_fleet(jobs, {"a": 7, "b": 11}, seconds=0.0)
    assert shared.value <= shared.bound < float("inf")
    assert shared.gap >= 0


def test_without_jobs_nobody_runs():
    shared = share_fleet([], {"gpu": 2})
    assert (dict(shared.placed), shared.value, shared.gap) == ({}, 0.0, 0.0)


JOB = Contender(job="ner", remaining=10, rates={"gpu": 1.0})


@pytest.mark.parametrize(
    ("contenders", "rules", "error", "message", "hint"),
    [
        ([replace(JOB, devices=3)], Rules(), InfeasibleError, "'ner' fits on no kind", "2 at the most"),
        ([replace(JOB, rates={})], Rules(), InfeasibleError, "'ner' fits on no kind", "give it a rate"),
        ([replace(JOB, rates={"gpu": -1.0})], Rules(), SpecError, "'ner': rate on gpu = -1", "from 0 up"),
        ([replace(JOB, rates={"gpus": 1.0})], Rules(), UnknownNameError, "kind of device 'gpus'", "'gpu'"),
        ([replace(JOB, running_on="gpus")], Rules(), UnknownNameError, "kind of device 'gpus'", "'gpu'"),
        ([replace(JOB, remaining=0)], Rules(), SpecError, "'ner': remaining = 0", "above 0"),
        ([replace(JOB, remaining=float("nan"))], Rules(), SpecError, "'ner': remaining = nan", "above 0"),
        ([replace(JOB, weight=0)], Rules(), SpecError, "'ner': weight = 0", "above 0"),
        ([replace(JOB, devices=0)], Rules(), SpecError, "'ner': devices = 0", "above 0"),
        ([replace(JOB, age=-1)], Rules(), SpecError, "'ner': age = -1", "from 0 up"),
        ([JOB, JOB], Rules(), SpecError, "job named twice: 'ner'", "once"),
        ([JOB], Rules(interval=0), SpecError, "interval = 0", "above 0"),
        ([JOB], Rules(stickiness=-0.1), SpecError, "stickiness = -0.1", "from 0 up"),
        ([JOB], Rules(aging=Aging(seconds=0)), SpecError, "aging.seconds = 0", "above 0"),
        ([JOB], Rules(objective="makspan"), UnknownNameError, "objective 'makspan'", "'makespan'"),  # type: ignore[arg-type]
    ],
)
def test_what_contradicts_itself_is_named_with_the_next_step(contenders, rules, error, message, hint):
    with pytest.raises(ArchipelError) as raised:
        share_fleet(contenders, {"gpu": 2}, rules=rules)
    assert type(raised.value) is error
    assert message in str(raised.value)
    assert hint in raised.value.hint
