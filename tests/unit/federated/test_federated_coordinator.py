"""The run's state machine: phases, cohorts, refusals, quorum, pauses."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from federated_driver import (
    SITES,
    accepted,
    asks,
    blob,
    coordinator,
    drive,
    drive_to,
    folded_for,
    job,
    refusal_for,
    refused,
    update_for,
)

from archipel.federated.coordinator import Coordinator
from archipel.federated.port import (
    Ask,
    Explain,
    Finish,
    Fold,
    GiveUp,
    RoundFolded,
    RunFailed,
    RunResumed,
    RunStopped,
    SiteBack,
    SiteLost,
    UpdateAccepted,
    UpdateRejected,
)
from archipel.federated.progress import loss_of
from archipel.federated.stages import draw_cohort, share_of
from archipel.spec import SpecError, StaleError, StateError, UnknownNameError
from archipel.spec.job import FederationSpec, RobustSpec

QUORUM = {"absent": "quorum", "quorum": 0.6}


def kinds_of(machine, **more):
    """Drive to the end; return the tasks asked, in order."""
    seen = []

    def answer(task):
        seen.append(task)
        return accepted(task, **more)

    [finish] = drive(machine, answer=answer)
    assert isinstance(finish, Finish)
    return seen, finish


def test_a_plain_run_checks_initialises_trains_and_evaluates():
    seen, finish = kinds_of(coordinator())
    rounds = {task.round: (task.kind, task.step) for task in seen}
    assert rounds == {0: ("check", 0), 1: ("initialise", 0), 2: ("train", 1), 3: ("train", 2), 4: ("evaluate", 0)}
    assert all(len([task for task in seen if task.round == number]) == 5 for number in rounds)
    assert finish.participation == (SITES, SITES)
    assert [model.name for model in finish.models] == ["federated"]


def test_a_full_run_has_every_phase_with_numbers_that_rise_by_one():
    spec = job({"rounds": 3}, {"every": 2, "alone": True, "personalise_epochs": 1}, serve="personalised")
    seen, finish = kinds_of(coordinator(spec), statistics=True)
    rounds = list(dict.fromkeys((task.round, task.kind, task.step) for task in seen))
    assert rounds == [
        (0, "check", 0),
        (1, "statistics", 0),
        (2, "initialise", 0),
        (3, "train", 1),
        (4, "train", 2),
        (5, "evaluate", 2),
        (6, "train", 3),
        (7, "alone", 0),
        (8, "personalise", 0),
        (9, "evaluate", 0),
        (10, "export", 0),
        (11, "export", 0),
    ]
    assert finish.onnx == blob("export 0 onnx of ann")
    assert len(finish.models) == 1 + 2 * len(SITES)


def test_statistics_are_asked_only_of_a_task_that_has_them_and_travel_afterwards():
    seen, _ = kinds_of(coordinator(), statistics=False)
    assert {task.kind for task in seen} == {"check", "initialise", "train", "evaluate"}
    assert all(task.statistics is None for task in seen)
    seen, _ = kinds_of(coordinator(), statistics=True)
    assert {task.statistics is None for task in seen if task.kind in {"initialise", "train", "evaluate"}} == {False}


def test_training_begins_from_the_last_folded_model_and_sends_state_from_the_second_round_on():
    machine = coordinator(job({"algorithm": "scaffold"}))
    first = drive_to(machine, "train", 1)
    assert {task.model for task in first} == {blob("initialise 0 model of model")}
    assert first[0].inputs == {}
    assert first[0].variant == {"scaffold": 1.0}
    second = drive_to(machine, "train", 2)
    assert second[0].inputs == {"control": blob("state 2")}
    assert second[0].model != first[0].model


def test_one_site_exports_the_global_model_and_each_its_personalised_copy():
    spec = job(evaluation={"personalise_epochs": 1}, serve="personalised")
    exports = [task for task in kinds_of(coordinator(spec))[0] if task.kind == "export"]
    assert [(task.site, task.share) for task in exports] == [("ann", True), *[(site, False) for site in SITES]]
    own = {task.site: task.model for task in exports[1:]}
    assert own == {site: blob(f"personalise 0 model of {site}") for site in SITES}
    exports = [task for task in kinds_of(coordinator(job(serve="global")))[0] if task.kind == "export"]
    assert [(task.site, task.share) for task in exports] == [("ann", True)]


@pytest.mark.parametrize(("federation", "sharer"), [({}, "ann"), (QUORUM, "bob")])
def test_the_first_site_exports_even_if_lost_where_the_job_waits(federation, sharer):
    machine = coordinator(job(federation, serve="global"))
    for task in drive_to(machine, "evaluate"):
        machine.handle(accepted(task))
    machine.handle(SiteLost(site="ann"))
    [fold] = machine.outstanding()
    [ask] = machine.handle(folded_for(fold))
    assert (ask.task.kind, ask.task.site, ask.task.share) == ("export", sharer, True)


def test_with_a_quorum_the_next_site_exports_where_the_first_is_lost_or_refuses():
    machine = coordinator(job(QUORUM, serve="global"))
    [first] = drive_to(machine, "export")
    [second] = asks(machine.handle(SiteLost(site="ann")))
    assert (first.site, second.site, second.share, second.round) == ("ann", "bob", True, first.round)
    [third] = asks(machine.handle(refused(second)))
    assert machine.progress().waiting == ("ann", "cid")
    [finish] = machine.handle(accepted(third))
    assert finish.onnx == blob("export 0 onnx of cid")
    assert machine.receipt(update_for(first)) == "stale"


def test_a_stop_and_a_resume_ask_for_the_export_where_somebody_is():
    machine = coordinator(job(QUORUM, serve="global"))
    drive_to(machine, "export")
    machine.handle(RunStopped())
    assert machine.handle(SiteLost(site="ann")) == ()
    assert [task.site for task in asks(machine.handle(RunResumed()))] == ["ann", "bob"]


def test_where_all_are_away_who_comes_back_first_exports():
    machine = coordinator(job(QUORUM, serve="global"))
    drive_to(machine, "export")
    for site in SITES:
        machine.handle(SiteLost(site=site))
    assert machine.handle(SiteBack(site="ann")) == machine.outstanding()[:1], "it was asked before"
    machine.handle(SiteLost(site="ann"))
    [task] = asks(machine.handle(SiteBack(site="eve")))
    assert task.site == "eve"
    assert isinstance(machine.handle(accepted(task))[0], Finish)


def test_an_export_that_every_site_refuses_pauses_and_waits_for_who_is_away():
    machine = coordinator(job(QUORUM, serve="global"))
    [task] = drive_to(machine, "export")
    machine.handle(SiteLost(site="eve"))
    for _ in SITES[:4]:
        [task] = asks(machine.handle(refused(task)))
    assert (task.site, machine.progress().waiting, machine.paused) == ("eve", ("eve",), False)
    [given_up] = machine.handle(refused(task))
    assert "export: ann refused" in given_up.message
    assert "and 4 more" in given_up.message
    assert [task.site for task in asks(machine.handle(RunResumed()))] == list(SITES)


def test_models_of_single_sites_are_scored_at_home_unless_the_job_says_cross():
    evaluation = {"alone": True, "personalise_epochs": 1}
    final = [task for task in kinds_of(coordinator(job(evaluation=evaluation)))[0] if task.kind == "evaluate"]
    assert {task.site: [model.name for model in task.models] for task in final} == {
        site: ["federated", f"alone/{site}", f"personalised/{site}"] for site in SITES
    }
    seen, _ = kinds_of(coordinator(job(evaluation=evaluation | {"cross": True})))
    assert all(task.share for task in seen if task.kind in {"alone", "personalise"})
    assert {len(task.models) for task in seen if task.kind == "evaluate"} == {1 + 2 * len(SITES)}


def test_a_model_its_site_keeps_private_is_not_shown_to_others_even_with_cross():
    machine = coordinator(job(evaluation={"alone": True, "cross": True}))
    final = drive_to(
        machine,
        "evaluate",
        answer=lambda task: accepted(task, shared=False if (task.kind, task.site) == ("alone", "bob") else None),
    )
    names = {task.site: {model.name for model in task.models} for task in final}
    assert "alone/bob" in names["bob"]
    assert "alone/bob" not in names["ann"]
    assert "alone/ann" in names["bob"]


def test_cohorts_are_drawn_from_seed_and_round_alone():
    federation = FederationSpec(cohort=0.4, seed=7)
    drawn = [draw_cohort(federation, step, SITES) for step in range(1, 200)]
    assert drawn == [draw_cohort(federation, step, SITES) for step in range(1, 200)]
    assert {len(cohort) for cohort in drawn} == {2}
    assert all(list(cohort) == sorted(cohort) for cohort in drawn)
    counts = Counter(site for cohort in drawn for site in cohort)
    assert len(counts) == 5
    assert min(counts.values()) > 50, counts  # 80 expected each
    assert drawn != [draw_cohort(FederationSpec(cohort=0.4, seed=8), step, SITES) for step in range(1, 200)]


@pytest.mark.parametrize(
    ("share", "count", "size"),
    [(0.1, 30, 3), (0.07, 100, 7), (0.3, 10, 3), (0.5, 3, 2), (1.0, 7, 7), (0.01, 3, 1), (0.7, 10, 7)],
)
def test_the_cohort_is_the_share_rounded_up(share, count, size):
    assert share_of(share, count) == size


# ---- refusals ---------------------------------------------------------------------------------------------------


def test_a_site_that_fails_the_check_leaves_the_run_by_name():
    machine = coordinator()
    tasks = asks(machine.start())
    for task in tasks:
        machine.handle(refused(task, message="no rows") if task.site == "cid" else accepted(task))
    assert machine.progress().excluded == {"cid": "no rows"}
    assert [task.site for task in asks(machine.outstanding())] == ["ann", "bob", "dot", "eve"]
    [finish] = drive(machine)
    assert finish.participation == (("ann", "bob", "dot", "eve"),) * 2


def test_a_robust_rule_counts_the_sites_it_needs_before_and_after_the_check():
    robust = RobustSpec(tolerate=2, mixing="none")
    with pytest.raises(SpecError, match="among 7 or more, and a round may have 5") as caught:
        coordinator(job({"robust": RobustSpec(tolerate=3)}))
    assert caught.value.hint == "set tolerate = 2, or let 2 more sites take part in a round"
    machine = coordinator(job({"robust": robust}))
    tasks = {task.site: task for task in asks(machine.start())}
    [given_up] = machine.handle(refused(tasks["ann"]))
    assert isinstance(given_up, GiveUp), "four sites of the five it needs are left"


def test_too_few_sites_after_the_check_give_up_and_can_be_resumed():
    machine = coordinator(job({"min_sites": 4}))
    tasks = {task.site: task for task in asks(machine.start())}
    assert machine.handle(refused(tasks["ann"])) == ()
    [given_up] = machine.handle(refused(tasks["bob"]))
    assert isinstance(given_up, GiveUp)
    assert "ann" in given_up.message
    assert given_up.hint == "join again"
    assert machine.outstanding() == (given_up,)
    again = asks(machine.handle(RunResumed()))
    assert {task.site for task in again} == set(SITES)
    [finish] = drive(machine)
    assert finish.participation[0] == SITES
    assert machine.progress().excluded == {}


def test_a_site_whose_first_model_has_other_shapes_is_refused_by_name():
    machine = coordinator()
    first, *tasks = sorted(drive_to(machine, "initialise"), key=lambda task: task.site)
    assert first.site == "ann"
    for task in tasks:
        assert machine.handle(accepted(task)) == ()
    [explain, *asked] = machine.handle(accepted(first, manifest="other"))
    assert isinstance(explain, Explain)
    assert (explain.refusal.site, explain.refusal.error) == ("ann", "ShapeError")
    assert not any(isinstance(item, Explain) for item in (*asked, *machine.outstanding())), "it is said once"
    assert set(machine.progress().excluded) == {"ann"}
    assert "ann" in machine.progress().excluded["ann"]
    tasks = drive_to(machine, "train", 1)
    assert {task.model for task in tasks} == {blob("initialise 0 model of model")}


def test_a_refusal_in_training_pauses_the_run_with_the_sites_own_words():
    machine = coordinator()
    tasks = {task.site: task for task in drive_to(machine, "train", 1)}
    machine.handle(accepted(tasks["ann"]))
    [given_up] = machine.handle(
        refused(tasks["bob"], error="NonFiniteError", message="NaN in the loss", hint="lower it")
    )
    assert (given_up.message, given_up.hint) == ("train: bob refused: NonFiniteError: NaN in the loss", "lower it")
    assert machine.handle(accepted(tasks["cid"])) == (), "answers still count while the run is paused"
    assert {task.site for task in asks(machine.handle(RunResumed()))} == {"bob", "dot", "eve"}
    [finish] = drive(machine)
    assert finish.participation == (SITES, SITES)


@pytest.mark.parametrize("kind", ["alone", "personalise", "evaluate", "export"])
def test_a_refusal_after_training_pauses_too(kind):
    machine = coordinator(job(evaluation={"alone": True, "personalise_epochs": 1}, serve="global"))
    task = drive_to(machine, kind)[0]
    [given_up] = machine.handle(refused(task))
    assert isinstance(given_up, GiveUp)
    assert task.site in {again.site for again in asks(machine.handle(RunResumed()))}
    assert isinstance(drive(machine)[0], Finish)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"parts": ()}, "sent no part 'delta'"),
        ({"manifest": "other"}, "other shapes"),
        ({"weight": float("nan")}, "not finite"),
        ({"weight": float("inf")}, "not finite"),
        ({"weight": 1.7e308}, "2**53 at the most"),
        ({"weight": 2.0**53 + 2}, "2**53 at the most"),
        ({"shared": False}, "to itself"),
    ],
)
def test_an_update_that_cannot_be_used_counts_as_a_refusal(more, says):
    machine = coordinator()
    task = drive_to(machine, "train", 1)[0]
    [explain, given_up] = machine.handle(accepted(task, **more))
    assert isinstance(explain, Explain)
    assert says in explain.refusal.message
    assert task.site in given_up.message
    assert says in given_up.message
    assert machine.progress().answered == 0


def test_an_update_found_unusable_while_folding_is_taken_back():
    machine = coordinator()
    [fold] = drive(machine, until=lambda item: isinstance(item, Fold) and item.kind == "train")
    event = UpdateRejected(refusal=refusal_for(fold.updates[1], error="NonFiniteError", message="NaN"))
    [given_up] = machine.handle(event)
    assert "bob" in given_up.message
    [ask] = machine.handle(RunResumed())
    assert ask.task.site == "bob"
    assert machine.receipt(update_for(ask.task)) == "accepted", "the key is free again"
    [fold] = machine.handle(accepted(ask.task))
    assert [update.site for update in fold.updates] == list(SITES)


def test_with_a_quorum_a_fold_goes_on_without_the_unusable_update():
    machine = coordinator(job(QUORUM))
    [fold] = drive(machine, until=lambda item: isinstance(item, Fold) and item.kind == "train")
    [again] = machine.handle(UpdateRejected(refusal=refusal_for(fold.updates[1])))
    assert isinstance(again, Fold)
    assert [update.site for update in again.updates] == ["ann", "cid", "dot", "eve"]
    [finish] = drive(machine)
    assert finish.participation == (("ann", "cid", "dot", "eve"), SITES)


def test_a_refusal_that_comes_after_the_round_closed_does_not_take_an_update_back():
    machine = coordinator()
    [fold] = drive(machine, until=lambda item: isinstance(item, Fold) and item.kind == "train")
    assert machine.handle(refused(fold.updates[0])) == ()
    assert machine.outstanding() == (fold,)


# ---- absence ----------------------------------------------------------------------------------------------------


def test_waiting_means_waiting_even_for_lost_sites():
    machine = coordinator()
    tasks = drive_to(machine, "train", 1)
    for task in tasks[1:]:
        machine.handle(accepted(task))
    assert machine.handle(SiteLost(site="ann")) == ()
    assert machine.progress().waiting == ("ann",)
    assert machine.progress().lost == ("ann",)
    [ask] = machine.handle(SiteBack(site="ann"))
    assert ask.task == tasks[0]
    [fold] = machine.handle(accepted(tasks[0]))
    assert isinstance(fold, Fold)


def test_a_quorum_round_closes_when_the_rest_is_lost_and_not_before():
    machine = coordinator(job(QUORUM))  # 3 of 5
    tasks = {task.site: task for task in drive_to(machine, "train", 1)}
    machine.handle(SiteLost(site="eve"))
    for site in ("ann", "bob", "cid"):
        assert machine.handle(accepted(tasks[site])) == (), "dot is there and at work"
    [fold] = machine.handle(SiteLost(site="dot"))
    assert [update.site for update in fold.updates] == ["ann", "bob", "cid"]
    assert machine.receipt(update_for(tasks["dot"])) == "stale"
    with pytest.raises(StaleError):
        machine.handle(accepted(tasks["dot"]))


def test_a_lost_site_that_is_back_in_time_is_counted():
    machine = coordinator(job(QUORUM))
    tasks = {task.site: task for task in drive_to(machine, "train", 1)}
    machine.handle(SiteLost(site="eve"))
    for site in ("ann", "bob", "cid"):
        machine.handle(accepted(tasks[site]))
    assert machine.handle(SiteBack(site="eve")) == (Ask(task=tasks["eve"]),)
    assert machine.handle(SiteLost(site="dot")) == (), "eve is back and may still answer"
    [fold] = machine.handle(accepted(tasks["eve"]))
    assert [update.site for update in fold.updates] == ["ann", "bob", "cid", "eve"]


def test_an_update_of_a_site_thought_lost_counts_while_the_round_is_open():
    machine = coordinator(job(QUORUM))
    tasks = {task.site: task for task in drive_to(machine, "train", 1)}
    machine.handle(SiteLost(site="ann"))
    assert machine.receipt(update_for(tasks["ann"])) == "accepted"
    machine.handle(accepted(tasks["ann"]))
    assert machine.progress().answered == 1


def test_answers_of_sites_thought_lost_do_not_close_the_round_on_those_at_work():
    machine = coordinator(job(QUORUM))
    tasks = {task.site: task for task in drive_to(machine, "train", 1)}
    for site in ("ann", "bob"):
        machine.handle(SiteLost(site=site))
    for site in ("ann", "bob", "cid"):
        assert machine.handle(accepted(tasks[site])) == ()
    assert machine.progress().waiting == ("dot", "eve")


def test_a_site_lost_in_an_earlier_round_is_not_waited_for():
    machine = coordinator(job(QUORUM))
    drive_to(machine, "train", 1)
    machine.handle(SiteLost(site="eve"))
    for step in (1, 2):
        tasks = [task for task in asks(machine.outstanding()) if task.site != "eve"]
        assert {task.step for task in tasks} == {step}
        for task in tasks:
            new = machine.handle(accepted(task))
        [fold] = new
        assert [update.site for update in fold.updates] == ["ann", "bob", "cid", "dot"]
        machine.handle(folded_for(fold))


def test_fewer_than_the_quorum_wait_for_a_lost_site_to_return():
    machine = coordinator(job(QUORUM))
    tasks = {task.site: task for task in drive_to(machine, "train", 1)}
    for site in ("cid", "dot", "eve"):
        machine.handle(SiteLost(site=site))
    machine.handle(accepted(tasks["ann"]))
    assert machine.handle(accepted(tasks["bob"])) == ()
    assert asks(machine.handle(SiteBack(site="cid"))) == [tasks["cid"]]
    [fold] = machine.handle(accepted(tasks["cid"]))
    assert len(fold.updates) == 3


def test_refusals_within_the_quorum_are_absences_and_beyond_it_a_pause():
    machine = coordinator(job(QUORUM))
    tasks = {task.site: task for task in drive_to(machine, "train", 1)}
    assert machine.handle(refused(tasks["ann"])) == ()
    assert machine.handle(refused(tasks["bob"])) == ()
    [given_up] = machine.handle(refused(tasks["cid"]))
    assert isinstance(given_up, GiveUp)
    assert "and 2 more" in given_up.message


def test_a_site_away_during_the_check_of_a_quorum_job_is_left_out_by_name():
    machine = coordinator(job(QUORUM))
    for task in asks(machine.start()):
        if task.site != "dot":
            machine.handle(accepted(task))
    machine.handle(SiteLost(site="dot"))
    assert machine.progress().excluded == {"dot": "away during check"}
    assert machine.progress().phase == "initialise"


def test_the_check_of_a_quorum_job_waits_for_its_quorum_too():
    machine = coordinator(job(QUORUM))  # 3 of 5
    tasks = {task.site: task for task in asks(machine.start())}
    for site in ("cid", "dot", "eve"):
        machine.handle(SiteLost(site=site))
    machine.handle(accepted(tasks["ann"]))
    assert machine.handle(accepted(tasks["bob"])) == ()
    assert machine.progress().phase == "check"
    machine.handle(SiteBack(site="cid"))
    machine.handle(accepted(tasks["cid"]))
    assert machine.progress().excluded == {"dot": "away during check", "eve": "away during check"}


def test_a_site_away_during_initialise_stays_and_trains_once_it_is_back():
    machine = coordinator(job(QUORUM))
    for task in drive_to(machine, "initialise"):
        if task.site != "dot":
            machine.handle(accepted(task))
    [fold] = machine.handle(SiteLost(site="dot"))
    machine.handle(folded_for(fold))
    assert machine.progress().excluded == {}
    assert asks(machine.handle(SiteBack(site="dot")))[0].kind == "train"


def test_a_site_lost_before_a_round_is_asked_when_it_is_back():
    machine = coordinator(job(QUORUM))
    drive_to(machine, "train", 1)
    machine.handle(SiteLost(site="eve"))
    for task in asks(machine.outstanding()):
        if task.site != "eve":
            machine.handle(accepted(task))
    [fold] = machine.outstanding()
    machine.handle(folded_for(fold))
    [ask] = machine.handle(SiteBack(site="eve"))
    assert (ask.task.site, ask.task.step) == ("eve", 2)


def test_losing_or_meeting_a_stranger_changes_nothing():
    machine = coordinator()
    before = machine.outstanding()
    assert machine.handle(SiteLost(site="zoe")) == ()
    assert machine.handle(SiteBack(site="zoe")) == ()
    assert machine.outstanding() == before


def test_a_lost_site_whose_refusal_is_forgotten_is_not_waited_for():
    machine = coordinator(job(QUORUM))
    tasks = {task.site: task for task in drive_to(machine, "train", 1)}
    machine.handle(refused(tasks["ann"]))
    machine.handle(SiteLost(site="ann"))
    machine.handle(refused(tasks["bob"]))
    machine.handle(refused(tasks["cid"]))
    assert machine.paused
    machine.handle(RunResumed())
    for site in ("bob", "cid", "dot"):
        machine.handle(accepted(tasks[site]))
    [fold] = machine.handle(accepted(tasks["eve"]))
    assert [update.site for update in fold.updates] == ["bob", "cid", "dot", "eve"]


def test_a_site_asked_again_after_its_exclusion_was_undone_is_a_member_again():
    machine = coordinator(job({"min_sites": 4}))
    tasks = {task.site: task for task in drive_to(machine, "statistics", statistics=True)}
    for site, task in tasks.items():
        new = machine.handle(refused(task) if site == "ann" else accepted(task))
    [fold] = new
    assert set(machine.progress().excluded) == {"ann"}
    [given_up] = machine.handle(UpdateRejected(refusal=refusal_for(tasks["bob"], error="NonFiniteError")))
    assert isinstance(given_up, GiveUp)
    assert {task.site for task in asks(machine.handle(RunResumed()))} == {"ann", "bob"}
    machine.handle(accepted(tasks["ann"]))
    [fold] = machine.handle(accepted(tasks["bob"]))
    assert len(fold.updates) == 5
    assert machine.progress().excluded == {}
    assert drive(machine)[0].participation[0] == SITES


# ---- counting once ----------------------------------------------------------------------------------------------


def test_the_same_update_twice_is_a_duplicate_and_changes_nothing():
    machine = coordinator()
    task = asks(machine.start())[0]
    machine.handle(accepted(task))
    before = (machine.progress(), machine.outstanding())
    assert machine.receipt(update_for(task)) == "duplicate"
    assert machine.handle(accepted(task)) == ()
    assert (machine.progress(), machine.outstanding()) == before


def test_what_belongs_to_no_open_round_is_stale():
    machine = coordinator()
    task = drive_to(machine, "train", 1)[0]
    wrong = {
        "another run": update_for(task).__class__(run="run-2", round=task.round, site="ann", kind="train"),
        "a later round": update_for(task).__class__(run="run-1", round=99, site="ann", kind="train"),
        "a stranger": update_for(task).__class__(run="run-1", round=task.round, site="zoe", kind="train"),
        "another kind": update_for(task).__class__(run="run-1", round=task.round, site="ann", kind="check"),
        "a stranger's closed round": update_for(task).__class__(run="run-1", round=0, site="zoe", kind="check"),
    }
    before = machine.outstanding()
    for what, update in wrong.items():
        assert machine.receipt(update) == "stale", what
        with pytest.raises(StaleError) as caught:
            machine.handle(UpdateAccepted(update=update))
        assert caught.value.hint
    assert machine.outstanding() == before


def test_an_answer_counted_in_a_closed_round_stays_a_duplicate():
    machine = coordinator()
    old = asks(machine.start())[0]
    drive_to(machine, "train", 2)
    assert machine.receipt(update_for(old)) == "duplicate"
    assert machine.receipt(refusal_for(old)) == "duplicate"


def test_a_site_outside_the_cohort_is_stale():
    machine = coordinator(job({"cohort": 0.4}))
    tasks = drive_to(machine, "train", 1)
    outside = next(site for site in SITES if site not in {task.site for task in tasks})
    update = update_for(tasks[0]).__class__(run="run-1", round=tasks[0].round, site=outside, kind="train")
    assert machine.receipt(update) == "stale"


# ---- folds, failures, stops ---------------------------------------------------------------------------------------


def test_a_fold_reported_twice_counts_once():
    machine = coordinator()
    [fold] = drive(machine, until=lambda item: isinstance(item, Fold) and item.kind == "train")
    machine.handle(folded_for(fold))
    before = machine.outstanding()
    assert machine.handle(folded_for(fold)) == ()
    assert machine.outstanding() == before


def test_a_fold_nobody_asked_for_or_without_a_result_is_an_error_and_changes_nothing():
    machine = coordinator()
    with pytest.raises(StateError):
        machine.handle(RoundFolded(round=0, model=blob("x")))
    with pytest.raises(StateError):
        machine.handle(UpdateRejected(refusal=refusal_for(asks(machine.start())[0])))
    [fold] = drive(machine, until=lambda item: isinstance(item, Fold) and item.kind == "train")
    with pytest.raises(StateError):
        machine.handle(RoundFolded(round=fold.round, model=None))
    assert machine.outstanding() == (fold,)


def test_a_fold_that_forgets_the_server_state_is_an_error():
    machine = coordinator(job({"algorithm": "fedadam"}))
    [fold] = drive(machine, until=lambda item: isinstance(item, Fold) and item.kind == "train")
    with pytest.raises(StateError):
        machine.handle(RoundFolded(round=fold.round, model=blob("model")))
    assert machine.outstanding() == (fold,)


def test_a_failed_fold_pauses_and_is_asked_again_on_resume():
    machine = coordinator()
    [fold] = drive(machine, until=lambda item: isinstance(item, Fold) and item.kind == "train")
    [given_up] = machine.handle(RunFailed(error="StorageFullError", message="disk full", hint="free some"))
    assert (given_up.message, given_up.hint) == ("disk full", "free some")
    assert machine.handle(RunResumed()) == (fold,)


@pytest.mark.parametrize("pause", [RunStopped(), RunFailed(error="LinkError", message="store away", hint="wait")])
def test_a_fold_that_ends_while_the_run_is_paused_counts_and_asks_for_nothing_yet(pause):
    machine = coordinator()
    [fold] = drive(machine, until=lambda item: isinstance(item, Fold) and item.kind == "train")
    machine.handle(pause)
    assert machine.handle(folded_for(fold)) == ()
    assert {(task.kind, task.step) for task in asks(machine.handle(RunResumed()))} == {("train", 2)}


def test_a_stopped_run_asks_for_nothing_and_goes_on_where_it_was():
    machine = coordinator()
    tasks = drive_to(machine, "train", 1)
    assert machine.handle(RunStopped()) == ()
    assert machine.outstanding() == ()
    for task in tasks:
        assert machine.handle(accepted(task)) == ()
    assert machine.progress().paused == "stopped"
    [fold] = machine.handle(RunResumed())
    assert len(fold.updates) == 5


def test_a_registration_that_failed_is_asked_again_on_resume():
    machine = coordinator()
    [finish] = drive(machine)
    machine.handle(RunFailed(error="StorageFullError", message="disk full", hint="free some"))
    assert machine.handle(RunResumed()) == (finish,)


def test_an_unknown_event_is_an_error():
    with pytest.raises(UnknownNameError):
        coordinator().handle("train harder")


# ---- participation --------------------------------------------------------------------------------------------------


def test_a_recorded_participation_is_replayed_exactly():
    machine = coordinator(job(QUORUM))
    lost = {1: "ann", 2: "eve"}

    def answer(task):
        return SiteLost(site=task.site) if task.kind == "train" and lost[task.step] == task.site else accepted(task)

    def answer_and_return(task):
        return answer(task)

    todo = list(machine.start())
    while todo and not isinstance(todo[0], Finish):
        item = todo.pop(0)
        todo += machine.handle(answer_and_return(item.task) if isinstance(item, Ask) else folded_for(item))
        for site in machine.progress().lost:
            if machine.progress().phase != "train" or machine.progress().answered == 0:
                todo += [ask for ask in machine.handle(SiteBack(site=site)) if ask not in todo]
    live = todo[0]
    assert live.participation == (("bob", "cid", "dot", "eve"), ("ann", "bob", "cid", "dot"))
    replay = coordinator(job(QUORUM), participation=live.participation)
    [finish] = drive(replay)
    assert finish.participation == live.participation
    assert finish.model == live.model


def test_a_replay_stops_by_name_where_a_site_it_needs_refuses():
    machine = coordinator(participation=[SITES, SITES[:2]])
    for task in asks(machine.start()):
        new = machine.handle(refused(task, message="no rows") if task.site == "cid" else accepted(task))
    [given_up] = new
    assert isinstance(given_up, GiveUp)
    assert "cid" in given_up.message
    assert machine.progress().excluded == {}
    assert [task.site for task in asks(machine.handle(RunResumed()))] == ["cid"]
    assert drive(machine)[0].participation == (SITES, SITES[:2])


def test_a_participation_that_does_not_fit_the_job_is_refused():
    with pytest.raises(SpecError):
        coordinator(participation=[SITES])
    with pytest.raises(SpecError):
        coordinator(participation=[SITES, ()])
    with pytest.raises(UnknownNameError) as caught:
        coordinator(participation=[SITES, ("anne",)])
    assert "ann" in caught.value.hint


def test_too_few_sites_to_start_are_refused():
    with pytest.raises(SpecError) as caught:
        coordinator(job({"min_sites": 6}))
    assert "min_sites" in caught.value.hint
    with pytest.raises(SpecError):
        Coordinator("run-1", job(), blob("bundle"), ())


# ---- for people -----------------------------------------------------------------------------------------------------


def test_progress_tells_where_the_run_stands():
    machine = coordinator()
    tasks = drive_to(machine, "train", 2)
    machine.handle(accepted(tasks[0]))
    seen = machine.progress()
    assert (seen.phase, seen.step, seen.steps_total, seen.answered, seen.cohort) == ("train", 2, 2, 1, 5)
    assert seen.waiting == SITES[1:]
    assert [(loss.step, loss.loss, loss.sites) for loss in seen.losses] == [(1, 1.5, 5)]
    drive(machine)
    assert machine.progress().phase == "finished"
    assert machine.finished


@pytest.mark.parametrize(
    ("sums", "loss"), [((1.0, 2.0), 0.3), ((float("inf"), 1.0), None), ((float("nan"), 1.0), None), ((), None)]
)
def test_a_loss_that_overflowed_is_none_and_does_not_stop_the_run(sums, loss):
    metrics = [{"loss_sum": value, "loss_examples": 5.0} for value in sums]
    assert loss_of(1, metrics, len(metrics)).loss == loss


def test_the_work_of_a_round_grows_with_its_sites_and_not_with_their_square():
    """Ten times the sites may take ten times the calls; a loop over all sites for each answer takes a hundred times."""

    def calls_for(count):
        machine = coordinator(job({"rounds": 1}), sites=[f"site-{index:05}" for index in range(count)])
        calls = 0

        def tally(frame, event, what):
            nonlocal calls
            calls += event in {"call", "c_call"}

        def answer(task):
            machine.progress()  # as a driver does after each answer
            return accepted(task)

        sys.setprofile(tally)
        try:
            drive_to(machine, "evaluate", answer=answer)
        finally:
            sys.setprofile(None)
        return calls

    few, many = calls_for(300), calls_for(3_000)
    assert many < 12 * few, f"300 sites took {few:,} calls, 3,000 took {many:,}"
