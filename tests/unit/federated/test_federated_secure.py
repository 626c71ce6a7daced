"""Runs under secure aggregation through the real coordinator, sites' sessions and folds; only updates are made up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from archipel.federated.clashes import require_secure, require_simulated
from archipel.federated.port import Finish, GiveUp, RunResumed, SiteBack, SiteLost, UpdateAccepted
from archipel.federated.secure.legs import LEGS
from archipel.spec import Refusal, SpecError, Update, unpack
from archipel.spec.job import job_from
from secure import SecureParty, machine_job, secure_job

SITES = ("ann", "bob", "cid", "dot")
PLAIN = {"secure_aggregation": "none"}


def weights_of(party: SecureParty, end: object) -> np.ndarray:
    assert isinstance(end, Finish), end
    return unpack(party.spool.require(end.model.digest).read_bytes())["w"]


@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi"])
def test_the_model_is_the_plain_one_within_the_steps_of_the_fixed_point(algorithm: str, tmp_path: Path) -> None:
    more = {"federation": {"algorithm": algorithm, "rounds": 1}}
    party = SecureParty(tmp_path, SITES)
    secure = weights_of(party, party.drive(party.coordinator(secure_job(**more))))
    party = SecureParty(tmp_path / "plain", SITES)
    plain = weights_of(party, party.drive(party.coordinator(secure_job(**more, privacy=PLAIN))))
    # four sites, range 2: steps of 2^-28, half a step a site over weights that are at least an eighth of the bound
    assert np.max(np.abs(secure - plain)) < (1e-6 if algorithm in {"fedavg", "fedprox", "fedavgm"} else 1e-3)
    assert not np.array_equal(secure, np.zeros_like(secure))


def test_sums_and_losses_are_exact_and_the_bytes_do_not_depend_on_keys_or_order(tmp_path: Path) -> None:
    ends = []
    for name in ("one", "two"):
        party = SecureParty(tmp_path / name, SITES if name == "one" else tuple(reversed(SITES)))
        machine = party.coordinator(secure_job(evaluation={"every": 1}))
        ends.append(party.drive(machine))
        assert [loss.loss for loss in machine.progress().losses] == [0.5, 0.5]
    party = SecureParty(tmp_path / "plain", SITES)
    plain = party.drive(party.coordinator(secure_job(privacy=PLAIN, evaluation={"every": 1})))
    first, second = ends
    assert isinstance(first, Finish)
    assert isinstance(second, Finish)
    assert isinstance(plain, Finish)
    assert (first.model, first.sums) == (second.model, second.sums)
    assert first.sums == plain.sums
    assert first.participation == (SITES, SITES)


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.attack(
    "hostile site", "end a secure sum by dropping out", result="survived", open="Too many drop-outs: no sum."
)
def test_a_site_that_drops_out_in_any_leg_is_survived(leg: str, tmp_path: Path) -> None:
    party = SecureParty(tmp_path, SITES)
    machine = party.coordinator(secure_job(federation={"absent": "quorum", "quorum": 0.75, "rounds": 1}))

    def answer(task):
        gone = task.kind == "train" and LEGS.index(task.leg) >= LEGS.index(leg) and task.site == "bob"
        return None if gone else party.answer(task)

    assert party.drive(machine, answer) is None
    machine.handle(SiteLost(site="bob"))
    machine_end = party.drive(machine)
    weights_of(party, machine_end)
    counted = SITES if leg in {"consent", "release"} else ("ann", "cid", "dot")
    assert machine.participation == (counted,)


@pytest.mark.parametrize("leg", LEGS[1:])
def test_too_few_survivors_end_the_round_by_name_and_it_can_be_resumed(leg: str, tmp_path: Path) -> None:
    party = SecureParty(tmp_path, SITES)
    machine = party.coordinator(secure_job(federation={"absent": "quorum", "quorum": 0.5, "rounds": 1}))

    def answer(task):
        gone = task.kind == "train" and task.leg == leg and task.site in {"bob", "cid"}
        return None if gone else party.answer(task)

    assert party.drive(machine, answer) is None
    machine.handle(SiteLost(site="bob"))
    [given_up] = machine.handle(SiteLost(site="cid"))
    assert isinstance(given_up, GiveUp)
    assert "too-few-sites: 2 of 4 sites answered" in given_up.message
    machine.handle(SiteBack(site="bob"))
    machine.handle(SiteBack(site="cid"))
    machine.handle(RunResumed())
    weights_of(party, party.drive(machine))
    assert machine.participation == (SITES,)


def test_a_site_that_aborts_pauses_a_run_that_waits_and_the_sum_is_tried_again_with_new_keys(tmp_path: Path) -> None:
    party = SecureParty(tmp_path, SITES)
    machine = party.coordinator(secure_job(federation={"rounds": 1}))
    adverts = []

    def answer(task):
        said = party.answer(task)
        if task.kind == "train" and task.leg == "advertise" and task.site == "ann":
            adverts.append(said.message)
        if task.kind == "train" and task.leg == "consent" and task.site == "dot" and len(adverts) == 1:
            error = "SecureAggregationError"
            return Refusal(run=task.run, round=task.round, site="dot", error=error, message="split-view: …")
        return said

    given_up = party.drive(machine, answer)
    assert isinstance(given_up, GiveUp)
    assert "dot refused: SecureAggregationError: split-view" in given_up.message
    machine.handle(RunResumed())
    weights_of(party, party.drive(machine, answer))
    assert len(set(adverts)) == 2


def test_a_coordinator_rebuilt_after_each_event_asks_for_the_same(tmp_path: Path) -> None:
    party = SecureParty(tmp_path, SITES)
    machine = party.coordinator(secure_job(federation={"rounds": 1}))
    events: list[UpdateAccepted] = []

    def answer(task):
        if task.kind != "statistics":
            return party.answer(task)
        again = party.coordinator(machine_job(machine))
        for event in events:
            again.handle(event)
        assert again.outstanding() == machine.outstanding()
        return said(task)

    def said(task):
        update = party.answer(task)
        events.append(UpdateAccepted(update=update))
        return update

    def until_the_sum(task):
        return None if task.kind == "initialise" else (said if task.kind == "check" else answer)(task)

    party.drive(machine, until_the_sum)
    assert len(events) == len(SITES) * (1 + len(LEGS))


@pytest.mark.attack(
    "curious control",
    "read one site's update, under secure aggregation",
    open="Sums are not private by themselves.",
)
def test_what_the_coordinator_is_told_names_no_update_weight_or_metric(tmp_path: Path) -> None:
    party = SecureParty(tmp_path, SITES)
    told: list[Update] = []

    def answer(task):
        said = party.answer(task)
        told.append(said)
        return said

    party.drive(party.coordinator(secure_job()), answer)
    secured = [update for update in told if update.kind in {"statistics", "train", "evaluate"}]
    assert len(secured) == len(SITES) * len(LEGS) * 4
    assert {(update.weight, tuple(update.metrics)) for update in secured} == {(0.0, ())}
    assert {name for update in secured for name in update.parts} == {"masked"}
    files = {path.read_bytes() for path in party.spool.folder.glob("??/*")}
    plain = set().union(*(site.plain for site in party.sites.values()))
    assert len(plain) >= len(SITES) * 3
    assert not files & plain


@dataclass(frozen=True)
class Clash:
    tables: dict
    words: str


CLASHES = (
    Clash({"federation": {"algorithm": "scaffold"}}, 'algorithm = "scaffold"'),
    Clash({"evaluation": {"cross": True}}, "cross = true"),
    Clash({"federation": {"min_sites": 2}}, "min_sites = 2"),
    Clash({"federation": {"robust": {"tolerate": 1}}}, "[federation.robust]"),
    Clash({"privacy": {"central": {"clip_norm": 1.0, "noise_multiplier": 1.0}}}, "added where updates are seen"),
    Clash({"privacy": {"local": {"clip_norm": 1.0, "noise_multiplier": 1.0}}}, "in every single update"),
)


@pytest.mark.parametrize("clash", CLASHES, ids=lambda clash: clash.words)
def test_what_does_not_go_with_it_is_refused_by_name(clash: Clash) -> None:
    with pytest.raises(SpecError) as caught:
        require_secure(secure_job(**clash.tables))
    assert clash.words in caught.value.message
    assert "secure_aggregation" in caught.value.hint


def test_an_asynchronous_population_is_refused_by_name() -> None:
    time = {"mode": "fedbuff", "concurrency": 4, "buffer": 2}
    with pytest.raises(SpecError, match="fedbuff"):
        require_simulated(secure_job(simulation={"time": time}))
    require_simulated(secure_job())


def test_an_update_beyond_the_range_is_refused_with_the_key_to_raise(tmp_path: Path) -> None:
    party = SecureParty(tmp_path, SITES)
    end = party.drive(party.coordinator(secure_job(privacy={"update_range": 0.01})))
    assert isinstance(end, GiveUp)
    assert "update_range = 0.01" in end.message
    assert "raise update_range" in end.hint


def test_a_job_says_nothing_and_has_none() -> None:
    job = job_from({"name": "a", "task": {"code": "t.py:A"}, "data": {"dataset": "d"}})
    assert job.privacy.secure_aggregation == "none"
