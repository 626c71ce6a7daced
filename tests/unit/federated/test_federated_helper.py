"""Runs with a helper through the real coordinator, sites' sessions and folds; only updates are made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archipel.federated.clashes import require_secure
from archipel.federated.port import Ask, Finish, GiveUp, RunResumed, SiteBack, SiteLost, UpdateAccepted
from archipel.federated.secure.legs import legs_of_sum
from archipel.federated.secure.opening import CORRECTION
from archipel.federated.secure.plan import secure_plan
from archipel.security.two_server import Terms
from archipel.spec import JobSpec, Refusal, RoundTask, SpecError, Update, decode
from secure import HELPER, WITH_HELPER, SecureParty, machine_job, secure_job

SITES = ("ann", "bob", "cid", "dot")
LEGS = ("compute", "advertise", "mask", "release")
QUORUM = {"absent": "quorum", "quorum": 0.4, "rounds": 1}


def helped_job(**tables: Any) -> JobSpec:
    return secure_job(**{"federation": {"rounds": 1}, **tables, "privacy": WITH_HELPER})


def party_in(folder: Path) -> SecureParty:
    return SecureParty(folder, (*SITES, HELPER))


def test_model_and_sums_are_those_of_secagg_byte_for_byte(tmp_path: Path) -> None:
    ends = []
    one_round = {"federation": {"rounds": 1}, "evaluation": {"every": 1}}
    for job in (helped_job(**one_round), secure_job(**one_round)):
        party = SecureParty(tmp_path / str(len(ends)), (*SITES, HELPER) if job.helpers else SITES)
        machine = party.coordinator(job)
        ends.append((party.drive(machine), machine.evaluations, machine.progress().losses))
    assert isinstance(ends[0][0], Finish)
    assert ends[0] == ends[1]
    assert ends[0][0].participation == (SITES,)


def test_a_site_says_one_thing_a_sum_and_control_is_told_no_update_weight_metric_or_mask(tmp_path: Path) -> None:
    party, told = party_in(tmp_path), []

    def answer(task: RoundTask) -> Update | Refusal:
        told.append((task, party.answer(task)))
        return told[-1][1]

    party.drive(party.coordinator(helped_job()), answer)
    first = [(task.leg, task.site) for task, _ in told if (task.kind, task.step) == ("train", 1)]
    worked, masked = ([(leg, site) for site in SITES] for leg in ("compute", "mask"))
    assert first == [*worked, ("advertise", HELPER), *masked, ("release", HELPER)]
    assert legs_of_sum(helped_job()) == LEGS
    secured = [update for _, update in told if update.kind in {"statistics", "train", "evaluate"}]
    assert {(update.weight, tuple(update.metrics)) for update in secured} == {(0.0, ())}
    assert {(update.site == HELPER, name) for update in secured for name in update.parts} == {
        (False, "masked"),
        (True, CORRECTION),
    }
    files = {path.read_bytes() for path in party.spool.folder.glob("??/*")}
    plain = set().union(*(site.plain for site in party.sites.values()))
    assert len(plain) >= len(SITES) * 3
    assert not files & plain
    helper = {path.read_bytes() for path in party.sites[HELPER].folder.rglob("*") if path.is_file()}
    assert not helper & plain


# ---- drop-outs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leg", ["compute", "mask"])
@pytest.mark.attack("hostile site", "end a sum with a helper by dropping out", result="survived")
def test_more_than_half_drop_out_and_are_not_in_the_sum(leg: str, tmp_path: Path) -> None:
    gone, left = ("bob", "cid", "dot", "eve"), ("ann", "fay", "gil")
    party = SecureParty(tmp_path, (*gone, *left, HELPER))
    machine = party.coordinator(helped_job(federation=QUORUM))

    def answer(task: RoundTask) -> Update | Refusal | None:
        away = task.kind == "train" and LEGS.index(task.leg) >= LEGS.index(leg) and task.site in gone
        return None if away else party.answer(task)

    assert party.drive(machine, answer) is None
    for site in gone:
        machine.handle(SiteLost(site=site))
    end = party.drive(machine, answer)
    assert isinstance(end, Finish), end
    assert end.participation == (left,)


@pytest.mark.parametrize("leg", LEGS[1:])
def test_a_helper_that_is_lost_ends_the_sum_by_name_and_once_it_is_back_the_run_goes_on(
    leg: str, tmp_path: Path
) -> None:
    party = party_in(tmp_path)
    machine = party.coordinator(helped_job(federation=QUORUM))

    def answer(task: RoundTask) -> Update | Refusal | None:
        away = task.kind == "train" and LEGS.index(task.leg) >= LEGS.index(leg) and task.site == HELPER
        return None if away else party.answer(task)

    assert party.drive(machine, answer) is None
    [given_up] = machine.handle(SiteLost(site=HELPER))
    assert isinstance(given_up, GiveUp)
    assert f"away: {HELPER}" in given_up.message
    assert machine.progress().lost == (HELPER,)
    machine.handle(SiteBack(site=HELPER))
    machine.handle(RunResumed())
    end = party.drive(machine)
    assert isinstance(end, Finish), end
    assert end.participation == (SITES,)


def test_where_the_job_waits_the_helper_opens_no_sum_without_all(tmp_path: Path) -> None:
    party, least = party_in(tmp_path), []

    def answer(task: RoundTask) -> Update | Refusal:
        if task.leg == "advertise":
            least.append(decode(task.message, Terms).least)
        return party.answer(task)

    party.drive(party.coordinator(helped_job()), answer)
    party = party_in(tmp_path / "quorum")
    party.drive(party.coordinator(helped_job(federation=QUORUM)), answer)
    assert least == [4, 4, 4, 3, 3, 3]


def test_a_site_that_refuses_pauses_a_run_that_waits_and_the_sum_is_tried_again_with_another_key(
    tmp_path: Path,
) -> None:
    party = party_in(tmp_path)
    machine = party.coordinator(helped_job())
    party.sites["bob"].least_sites = 5
    given_up = party.drive(machine)
    assert isinstance(given_up, GiveUp)
    assert "bob refused: SecureAggregationError: small-cohort: 4 sites, at least 5 are needed" in given_up.message
    party.sites["bob"].least_sites = 4
    keys = []

    def answer(task: RoundTask) -> Update | Refusal:
        said = party.answer(task)
        if task.leg == "advertise":
            keys.append(said.message)
        return said

    machine.handle(RunResumed())
    assert isinstance(party.drive(machine, answer), Finish)
    assert len(set(keys)) == len(keys)


def test_a_coordinator_rebuilt_after_each_answer_asks_for_the_same(tmp_path: Path) -> None:
    party = party_in(tmp_path)
    machine = party.coordinator(helped_job())
    events: list[UpdateAccepted] = []

    def answer(task: RoundTask) -> Update | Refusal | None:
        if task.kind == "initialise":
            return None
        again = party.coordinator(machine_job(machine))
        for event in events:
            again.handle(event)
        assert again.outstanding() == machine.outstanding()
        said = party.answer(task)
        assert isinstance(said, Update)
        events.append(UpdateAccepted(update=said))
        return said

    party.drive(machine, answer)
    assert len(events) == len(SITES) * 3 + 2


# ---- hostile sites ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lie:
    leg: str
    site: str
    words: str
    short: bool = False
    """Of another length; else of other bytes than were signed."""


LIES = (
    Lie("mask", "bob", "bob signed another vector than it sent"),
    Lie("mask", "bob", "bob sent no masked vector of", short=True),
    Lie("release", HELPER, f"{HELPER} signed another vector than it sent"),
    Lie("release", HELPER, f"{HELPER} sent no correction vector of", short=True),
)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.words)
@pytest.mark.attack("hostile site", "send another vector than the signed one into a sum with a helper")
def test_a_vector_that_is_not_the_signed_one_is_refused_by_name(lie: Lie, tmp_path: Path) -> None:
    party = party_in(tmp_path)
    machine = party.coordinator(helped_job())

    def answer(task: RoundTask) -> Update | Refusal:
        said = party.answer(task)
        if (task.kind, task.leg, task.site) != ("train", lie.leg, lie.site):
            return said
        [(name, part)] = said.parts.items()
        blob = party.spool.put(bytes(4 if lie.short else part.blob.size_bytes))
        return msgspec.structs.replace(said, parts={name: msgspec.structs.replace(part, blob=blob)})

    given_up = party.drive(machine, answer)
    assert isinstance(given_up, GiveUp)
    assert lie.words in given_up.message


# ---- what goes with it --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clash:
    tables: dict[str, Any]
    words: str
    sites: tuple[str, ...] = field(default=())


CLASHES = (
    Clash({"privacy": {"helper": None}}, "'two-server' and no helper"),
    Clash({"privacy": {"secure_aggregation": "secagg"}}, "'secagg' and helper = 'notary'"),
    Clash({"privacy": {"secure_aggregation": "none"}}, "'none' and helper = 'notary'"),
    Clash({"federation": {"sites": ["ann", "bob", HELPER]}}, "'notary' is one of the run's sites"),
    Clash({}, "'notary' is one of the run's sites", sites=(*SITES, HELPER)),
    Clash({"federation": {"algorithm": "scaffold"}}, 'algorithm = "scaffold"'),
    Clash({"federation": {"robust": {"tolerate": 1}}}, "[federation.robust]"),
    Clash({"evaluation": {"cross": True}}, "cross = true"),
    Clash({"federation": {"min_sites": 2}}, "min_sites = 2"),
)


@pytest.mark.parametrize("clash", CLASHES, ids=lambda clash: clash.words)
def test_what_does_not_go_with_a_helper_is_refused_by_name(clash: Clash) -> None:
    job = helped_job(**{name: values for name, values in clash.tables.items() if name != "privacy"})
    job = msgspec.structs.replace(job, privacy=msgspec.structs.replace(job.privacy, **clash.tables.get("privacy", {})))
    with pytest.raises(SpecError) as caught:
        require_secure(job, clash.sites)
    assert clash.words in caught.value.message
    assert caught.value.hint


def test_the_plan_says_who_helps_and_what_each_server_learns() -> None:
    plan = secure_plan(helped_job(), 10, 4)
    assert plan is not None
    assert (plan.mode, plan.helper, plan.sites, plan.quorum, plan.threshold) == ("two-server", HELPER, 10, 4, None)
    assert plan.learns == secure_plan(secure_job(), 10, 4).learns
    assert "no vector of any site" in " ".join(plan.helper_learns)


def test_no_helper_is_asked_before_there_is_something_to_add(tmp_path: Path) -> None:
    machine = party_in(tmp_path).coordinator(helped_job())
    assert {item.task.site for item in machine.start() if isinstance(item, Ask)} == set(SITES)
