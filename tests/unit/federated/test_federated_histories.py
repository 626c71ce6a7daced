"""Any history of events, cut by a crash anywhere, leads to the same run: properties over random histories."""

from __future__ import annotations

import random

import pytest
from federated_driver import SITES, accepted, coordinator, drive, folded_for, job, refusal_for, refused, update_for
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.federated.port import (
    Ask,
    Explain,
    Finish,
    Fold,
    GiveUp,
    RunFailed,
    RunResumed,
    RunStopped,
    SiteBack,
    SiteLost,
    UpdateRejected,
)
from archipel.spec import StaleError, StateError

FULL = {"alone": True, "personalise_epochs": 1, "every": 1}
JOBS = {
    "wait": job({"rounds": 2, "cohort": 0.6}, FULL, serve="personalised"),
    "quorum": job({"rounds": 2, "absent": "quorum", "quorum": 0.6, "min_sites": 2}, FULL, serve="global"),
    "scaffold": job({"rounds": 2, "algorithm": "scaffold"}),
}


def view(machine):
    """Everything a driver or a person can see of a machine."""
    return (machine.outstanding(), machine.progress(), machine.participation, machine.evaluations, machine.number)


class History:
    """A driver that shuffles, repeats, loses and fails; it journals each event before the machine takes it."""

    def __init__(self, spec, seed, *, trouble):
        self.spec = spec
        self.chance = random.Random(seed)
        self.trouble = trouble
        self.machine = coordinator(spec)
        self.todo = list(self.machine.start())
        self.journal = []
        self.sent = []
        self.views = [view(self.machine)]

    def run(self, limit=600):
        """Go on until the run is finished; troubles stop half way, so that it can."""
        for count in range(limit):
            if count > limit // 2:
                self.trouble = 0.0
            if self.todo and isinstance(self.todo[0], Finish):
                return self.todo[0]
            event = self.next_event()
            self.take(event)
        return pytest.fail("the run does not end")

    def take(self, event):
        try:
            new = self.machine.handle(event)
        except (StaleError, StateError):
            return
        self.journal.append(event)
        self.views.append(view(self.machine))
        if isinstance(event, UpdateRejected):
            # A fold with an unusable update has no result: what was queued of it fails as this one did.
            self.todo = [item for item in self.todo if not isinstance(item, Fold)]
        self.todo += [item for item in new if not isinstance(item, Explain)]
        if isinstance(event, RunResumed):
            self.todo = list(self.machine.outstanding())

    def next_event(self):  # noqa: PLR0911 - one a situation
        if self.chance.random() < self.trouble:
            return self.mischief()
        if self.machine.paused:
            self.todo.clear()
            return RunResumed()
        lost = self.machine.progress().lost
        if lost and (not self.todo or self.chance.random() < 0.5):
            return SiteBack(site=lost[0])
        if not self.todo:
            self.todo = list(self.machine.outstanding())
        item = self.todo.pop(self.chance.randrange(len(self.todo)))
        match item:
            case Ask(task=task):
                if task.site in lost:
                    return SiteBack(site=task.site)
                self.sent.append(task)
                return accepted(task, statistics=True)
            case Fold():
                return folded_for(item)
            case Finish() | GiveUp():
                self.todo.insert(0, item)
                return RunResumed()

    def mischief(self):
        open_tasks = [item.task for item in self.todo if isinstance(item, Ask)]
        folds = [item for item in self.todo if isinstance(item, Fold)]
        options = [
            SiteLost(site=self.chance.choice(SITES)),
            SiteBack(site=self.chance.choice(SITES)),
            RunStopped(),
            RunFailed(error="StorageFullError", message="disk full", hint="free some"),
        ]
        if self.sent:
            options += [accepted(self.chance.choice(self.sent)), refused(self.chance.choice(self.sent))]
        if open_tasks and open_tasks[0].kind not in {"check", "statistics", "initialise"}:
            options += [refused(self.chance.choice(open_tasks)), accepted(self.chance.choice(open_tasks), parts=())]
        if folds and folds[0].kind == "train":
            options.append(UpdateRejected(refusal=refusal_for(self.chance.choice(folds[0].updates))))
        return self.chance.choice(options)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(JOBS)), st.integers(0, 2**32))
def test_a_crash_at_any_position_changes_nothing(name, seed):
    history = History(JOBS[name], seed, trouble=0.2)
    history.run()
    again = coordinator(JOBS[name])
    assert view(again) == history.views[0]
    for event, seen in zip(history.journal, history.views[1:], strict=True):
        again.handle(event)
        assert view(again) == seen


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["wait", "scaffold"]), st.integers(0, 2**32))
def test_where_the_job_waits_trouble_and_order_never_reach_the_model(name, seed):
    [calm] = drive(coordinator(JOBS[name]), statistics=True)
    finish = History(JOBS[name], seed, trouble=0.25).run()
    assert finish == calm


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_quorum_run_equals_its_recorded_participation_replayed(seed):
    history = History(JOBS["quorum"], seed, trouble=0.2)
    finish = history.run()
    members = sorted(set(SITES) - set(history.machine.progress().excluded))
    replay = coordinator(JOBS["quorum"], sites=members, participation=finish.participation)
    [again] = drive(replay, statistics=True)
    assert again.participation == finish.participation
    assert again.model == finish.model


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(JOBS)), st.integers(0, 2**32))
def test_each_fold_holds_each_site_once_in_order_of_names(name, seed):
    history = History(JOBS[name], seed, trouble=0.2)
    history.run()
    folds = {fold.round: fold for outstanding, *_ in history.views for fold in outstanding if isinstance(fold, Fold)}
    for fold in folds.values():
        sites = [update.site for update in fold.updates]
        assert sites == sorted(set(sites))
        assert {(update.round, update.kind) for update in fold.updates} == {(fold.round, fold.kind)}
    trained = [fold for fold in folds.values() if fold.kind == "train"]
    assert len(trained) == JOBS[name].federation.rounds


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(JOBS)), st.integers(0, 2**32))
def test_receipts_tell_beforehand_what_handling_does(name, seed):
    history = History(JOBS[name], seed, trouble=0.3)
    machine, chance = history.machine, random.Random(seed)
    for _ in range(60):
        if history.sent:
            task = chance.choice(history.sent)
            update = update_for(task, statistics=True)
            before, worth = view(machine), machine.receipt(update)
            assert view(machine) == before
            assert worth == machine.receipt(update)
            if worth != "accepted":
                history.take(accepted(task, statistics=True))
                assert view(machine) == before
        if any(isinstance(item, Finish) for item in history.todo):
            break
        history.take(history.next_event())
