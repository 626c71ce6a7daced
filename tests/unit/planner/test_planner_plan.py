"""Plans against numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data.compression.choice import codec_of
from archipel.planner import Sizes, draw_plan
from archipel.planner.compression import with_picks
from archipel.planner.estimate import BatchRate, SitePace
from archipel.planner.pace import FAST, SLOW, Seen
from archipel.spec import DatasetManifest, JobSpec, SpecError, decode, encode, manifest_of, pack
from archipel.spec.compression import CompressionSpec
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


TENSORS = manifest_of([("w", (100, 50), np.dtype(np.float32)), ("b", (50,), np.dtype(np.float32))])
KNOWN = Sizes(model_bytes=20_400, manifest=TENSORS)
LEAVES = {"int8": 5050 + 5 * 4, "int4": 2525 + 5 * 4, "top-k": 8 + 632 + 505 + 4, "low-rank": 4 * (2 * 150 + 50)}
"""Kind → bytes of an update's buffer, by hand: levels and scales; starts, bits, levels, a scale; factors and a bias."""


def test_updates_take_what_their_codecs_leave_and_the_model_goes_down_whole():
    sites = dict(zip(("ann", "bob", "cid", "dot"), LEAVES, strict=True))
    plan = draw_plan(job({"compression": CompressionSpec(rank=2, sites=sites)}), FOUR, KNOWN)
    assert {share.site: share.compression for share in plan.participants} == sites
    for share in plan.participants:
        assert 0 <= share.update_bytes - LEAVES[share.compression] < 420, "beside the buffer there is a header"
    sent = sum(share.update_bytes for share in plan.participants)
    assert phases(plan)["train"] == (10, 10 * 4 * 20_400, 10 * sent)
    assert phases(plan)["initialise"] == (1, 0, 4 * 20_400)


def test_the_planned_bytes_of_an_update_are_those_that_its_codec_writes():
    vector = np.random.default_rng(0).standard_normal(5050).astype(np.float32)
    for kind in LEAVES:
        spec = CompressionSpec(kind=kind)
        [share, *_] = draw_plan(job({"compression": spec}), FOUR, KNOWN).participants
        codec = codec_of(spec, "ann")
        assert codec is not None
        assert share.update_bytes == len(pack(codec.encode(vector, TENSORS, np.random.default_rng(0))))


def test_a_model_whose_tensors_are_not_known_is_taken_as_one_vector_and_it_is_said():
    plan = draw_plan(job({"compression": CompressionSpec(kind="int8")}), FOUR, Sizes(model_bytes=4_000_000))
    assert plan.participants[0].update_bytes == pytest.approx(1_004_000, rel=0.001)
    assert any("one float32 vector" in said for said in plan.assumptions)
    unknown = draw_plan(job({"compression": CompressionSpec(kind="int8")}), FOUR, Sizes(model_bytes=0))
    assert unknown.participants[0].update_bytes == 0


def paced(**up):
    return {site: SitePace(rate=BatchRate(alpha=0.0, beta=0.01), down=1e9, up=float(rate)) for site, rate in up.items()}


def test_a_site_gets_the_mildest_kind_that_keeps_it_from_being_waited_for():
    # An epoch takes 1 to 4 s; 4 MB up in 0.04, 2, 40 and 1 s.
    auto, sizes = job({"compression": CompressionSpec(kind="auto")}, batch_size=10), Sizes(model_bytes=4_000_000)
    found = with_picks(auto, paced(ann=1e8, bob=2e6, cid=1e5, dot=4e6), FOUR, sizes).federation.compression
    # Strongest, top-k: cid 3 + 2.3 s, dot 4 + 0.06 s; so a round takes 5.3 s, and 5 % more is let be.
    assert found == CompressionSpec(kind="none", sites={"cid": "top-k"})
    slower = with_picks(auto, paced(ann=1e8, bob=2e6, cid=1e5, dot=1.5e6), FOUR, sizes).federation.compression
    # dot: 4 + 2.7 s whole, 4 + 0.7 s in 8 bits.
    assert slower == CompressionSpec(kind="none", sites={"cid": "top-k", "dot": "int8"})


def test_what_the_job_names_is_not_picked_again_and_an_unprobed_site_sends_all():
    spec = CompressionSpec(kind="auto", sites={"cid": "int4"})
    found = with_picks(job({"compression": spec}), paced(ann=1e3), FOUR, Sizes(model_bytes=4_000_000))
    assert found.federation.compression == CompressionSpec(kind="none", sites={"ann": "top-k", "cid": "int4"})
    plain = job({"compression": CompressionSpec(kind="int8")})
    assert with_picks(plain, paced(ann=1e3), FOUR, SIZES) is plain


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
