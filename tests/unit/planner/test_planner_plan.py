"""Plans against numbers worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.planner import Sizes, draw_plan
from archipel.planner.estimate import BatchRate, SitePace
from archipel.planner.pace import FAST, SLOW, Seen
from archipel.spec import DatasetManifest, JobSpec, SpecError, decode, encode
from archipel.spec.job import DataSpec, DeploymentSpec, EvaluationSpec, FederationSpec, LocalTraining, TaskSpec
from archipel.spec.plan import Plan


def job(federation=None, evaluation=None, serve="none", **local):
    return JobSpec(
        name="birds",
        task=TaskSpec(code="task.py:Birds"),
        data=DataSpec(dataset="birds"),
        federation=FederationSpec(local=LocalTraining(**local), **{"rounds": 10} | (federation or {})),
        evaluation=EvaluationSpec(**(evaluation or {})),
        deployment=DeploymentSpec(serve=serve),
    )


def manifests(**rows):
    return {
        site: DatasetManifest(
            dataset="birds", digest="sha256:" + "0" * 64, size_bytes=9, rows=count, labels={"x": count}
        )
        for site, count in rows.items()
    }


def seen(overhead=0.0, other=None, **rounds):
    return Seen(round_seconds=rounds, overhead_seconds=overhead, other_seconds=other)


FOUR = manifests(ann=100, bob=200, cid=300, dot=400)
SIZES = Sizes(model_bytes=1000, bundle_bytes=50, statistics_bytes=20, sums_bytes=8)


def phases(plan):
    return {phase.kind: (phase.rounds, phase.down_bytes, phase.up_bytes) for phase in plan.phases}


def test_a_plain_run_moves_the_model_once_a_round_each_way():
    plan = draw_plan(job(), FOUR, SIZES)
    assert phases(plan) == {
        "check": (1, 4 * 50, 0),
        "statistics": (1, 0, 4 * 20),
        "initialise": (1, 4 * 20, 4 * 1000),
        "train": (10, 10 * 4 * 1000, 10 * 4 * 1000),
        "evaluate": (1, 4 * 1000, 4 * 8),
    }
    assert plan.down_bytes == 200 + 80 + 40_000 + 4_000
    assert plan.up_bytes == 80 + 4_000 + 40_000 + 32
    assert [(share.site, share.rows, share.labels) for share in plan.participants] == [
        (site, manifest.rows, {"x": manifest.rows}) for site, manifest in FOUR.items()
    ]
    assert (plan.rounds, plan.cohort_size, plan.model_bytes) == (10, 4, 1000)


def test_scaffold_moves_twice_as_much_and_its_first_round_sends_no_control_variate():
    plan = draw_plan(job({"algorithm": "scaffold"}), FOUR, SIZES)
    assert phases(plan)["train"] == (10, (10 + 9) * 4 * 1000, 10 * 4 * 2000)


def test_a_cohort_of_half_the_sites_moves_half_and_alone_fetches_the_first_model_for_the_rest():
    plan = draw_plan(job({"cohort": 0.5}, {"alone": True}), FOUR, SIZES)
    assert plan.cohort_size == 2
    assert phases(plan)["train"] == (10, 10 * 2 * 1000, 10 * 2 * 1000)
    assert phases(plan)["alone"] == (1, 2 * 1000, 0)


def test_a_cohort_is_not_rounded_up_by_a_last_bit():
    many = manifests(**{f"s{index}": 10 for index in range(100)})
    assert draw_plan(job({"cohort": 0.07}), many, SIZES).cohort_size == 7  # 0.07 * 100 > 7


def test_intermediate_scoring_fetches_models_that_the_next_round_then_has():
    # every = 5 of 10 rounds: scored after rounds 5 and 10. Round 6 begins from a model that is there; the final
    # scoring uses that of round 10. Train fetches 9 models a site, evaluate 2.
    plan = draw_plan(job(evaluation={"every": 5}), FOUR, SIZES)
    assert phases(plan)["train"][1] == 9 * 4 * 1000
    assert phases(plan)["evaluate"] == (3, 2 * 4 * 1000, 4 * 8 * 3)


def test_personalising_fetches_the_final_model_once():
    plan = draw_plan(job(evaluation={"personalise_epochs": 1}), FOUR, SIZES)
    assert phases(plan)["personalise"] == (1, 4 * 1000, 0)
    assert phases(plan)["evaluate"] == (1, 0, 4 * 8 * 2)


def test_showing_models_to_each_other_costs_all_pairs():
    plan = draw_plan(job(evaluation={"alone": True, "cross": True}), FOUR, SIZES)
    assert phases(plan)["alone"] == (1, 0, 4 * 1000)
    assert phases(plan)["evaluate"] == (1, 4 * 1000 + 4 * 3 * 1000, 4 * 8 * (1 + 4))


@pytest.mark.parametrize(
    ("serve", "evaluation", "expected"),
    [
        ("global", {}, (1, 4 * 700, 700)),
        ("personalised", {"personalise_epochs": 1}, (2, 0, 700)),
        ("personalised", {}, (1, 4 * 700, 700)),
    ],
)
def test_serving_moves_the_exported_model(serve, evaluation, expected):
    sizes = Sizes(model_bytes=1000, onnx_bytes=700)
    assert phases(draw_plan(job(evaluation=evaluation, serve=serve), FOUR, sizes))["export"] == expected


def test_a_task_without_statistics_has_no_such_phase():
    assert "statistics" not in phases(draw_plan(job(), FOUR, Sizes(model_bytes=1000)))


def test_unprobed_time_is_an_interval_from_rows_and_epochs():
    # 400 rows, 2 epochs, batch 40: 20 batches. Model of 4,000,000 bytes: 1e6 parameters, 6e6 operations an example.
    # Fast: 800 * 6e6 / 5e10 + 20 * 2e-5 + 8e6 / 1e8 = 0.096 + 0.0004 + 0.08 = 0.1764 s.
    # Slow: 800 * 6e6 * 10 / 2e9 + 20 * 5e-3 + 8e6 / 1e6 = 24 + 0.1 + 8 = 32.1 s.
    plan = draw_plan(job(epochs=2, batch_size=40), manifests(ann=400), Sizes(model_bytes=4_000_000))
    low, high = plan.participants[0].seconds_per_round
    assert (low, high) == pytest.approx((0.1764, 32.1))
    # The run: 10 rounds, and one scoring worth a third of one of the two epochs.
    assert plan.seconds == pytest.approx((0.1764 * (10 + 1 / 6), 32.1 * (10 + 1 / 6)))
    assert any("unprobed" in sentence for sentence in plan.assumptions)


def test_measured_rounds_replace_the_guess():
    plan = draw_plan(job(), manifests(ann=1, bob=1), SIZES, seen=seen(ann=[2.0, 3.0, 2.5], bob=[5.0]))
    assert [share.seconds_per_round for share in plan.participants] == [(2.0, 3.0), (5.0, 5.0)]
    # A round takes as long as the slowest: 10 * 5 s, and scoring a third of that once.
    assert plan.seconds == pytest.approx((50 + 5 / 3, 50 + 5 / 3))
    assert not any("unprobed" in sentence for sentence in plan.assumptions)


@pytest.mark.parametrize(("rows", "model_bytes"), [(0, 1000), (5, 0)])
def test_without_a_first_run_no_time_is_made_up(rows, model_bytes):
    plan = draw_plan(job(), manifests(ann=rows, bob=7), Sizes(model_bytes=model_bytes))
    assert plan.seconds is None
    assert plan.participants[0].seconds_per_round is None
    assert any("ann" in sentence and "first run" in sentence for sentence in plan.assumptions)
    assert any("size" in sentence for sentence in plan.assumptions) == (model_bytes == 0)


def test_with_cohorts_a_round_is_the_mean_over_all_cohorts_of_their_slowest():
    past = {"ann": [1.0], "bob": [2.0], "cid": [4.0], "dot": [8.0]}
    plan = draw_plan(job({"cohort": 0.5, "rounds": 3}), FOUR, SIZES, seen=seen(**past))
    each = (2 + 4 + 4 + 8 + 8 + 8) / 6  # of the six pairs
    assert plan.seconds == pytest.approx((3 * each + 8 / 3, 3 * each + 8 / 3))


def test_timed_batches_make_a_prediction_and_measured_rounds_stand_over_it():
    pace = SitePace(rate=BatchRate(alpha=0.1, beta=0.01), down=1000.0, up=500.0)
    plan = draw_plan(
        job(batch_size=50), FOUR, SIZES, seen=seen(ann=[7.0]), paces={"ann": pace, "bob": pace, "cid": pace}
    )
    times = {share.site: share.seconds_per_round for share in plan.participants}
    assert times["ann"] == (7.0, 7.0)
    assert times["bob"] == pytest.approx((1 + 4 * 0.6 + 2,) * 2)
    assert times["dot"][0] < times["dot"][1]
    assert any("unprobed" in sentence for sentence in plan.assumptions)


def test_refused_sites_are_named_and_left_out():
    plan = draw_plan(job(), FOUR, SIZES, refused={"bob": "no column 'species'", "zoe": "has no data set 'birds'"})
    assert [share.site for share in plan.participants] == ["ann", "cid", "dot"]
    assert plan.refused == {"bob": "no column 'species'", "zoe": "has no data set 'birds'"}


@pytest.mark.parametrize("sites", [{}, manifests(ann=5)])
def test_too_few_sites_are_an_error_that_says_why(sites):
    with pytest.raises(SpecError) as caught:
        draw_plan(job({"min_sites": 2}), sites, SIZES, refused={"bob": "no rows"})
    assert "bob: no rows" in caught.value.message
    assert caught.value.hint


def test_a_plan_crosses_the_wire():
    plan = draw_plan(job(evaluation={"alone": True}), FOUR, SIZES)
    assert decode(encode(plan), Plan) == plan


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20), st.integers(0, 10**9), st.floats(0.01, 1.0))
def test_intervals_are_in_order_and_bytes_are_not_negative(rows, model_bytes, cohort):
    sites = manifests(**{f"s{index}": count for index, count in enumerate(rows)})
    known = [share for share in rows if share and model_bytes]
    evaluation = {"alone": True, "personalise_epochs": 2, "every": 3}
    plan = draw_plan(job({"cohort": cohort}, evaluation), sites, Sizes(model_bytes=model_bytes))
    intervals = [share.seconds_per_round for share in plan.participants if share.seconds_per_round]
    assert len(intervals) == len(known)
    assert all(0 <= low <= high for low, high in intervals)
    assert (plan.seconds is None) == (len(known) < len(rows))
    assert plan.seconds is None or 0 <= plan.seconds[0] <= plan.seconds[1]
    assert all(phase.down_bytes >= 0 and phase.up_bytes >= 0 for phase in plan.phases)


def test_the_slow_pace_is_slower_in_everything():
    assert SLOW.operations_per_second < FAST.operations_per_second
    assert SLOW.bytes_per_second < FAST.bytes_per_second
    assert SLOW.batch_seconds > FAST.batch_seconds


def test_what_a_round_took_beyond_the_sites_work_and_the_rest_of_a_run_are_forecast_too():
    known = {"ann": [1.0], "bob": [2.0, 3.0], "cid": [1.0], "dot": [1.0]}
    assert draw_plan(job(), FOUR, SIZES, seen=seen(overhead=0.5, other=7.0, **known)).seconds == (32.0, 42.0)
    unlike = draw_plan(job(), FOUR, SIZES, seen=seen(overhead=0.5, **known)).seconds
    assert unlike == (pytest.approx(10 * 2.5 + 2 / 3), pytest.approx(10 * 3.5 + 1.0))
