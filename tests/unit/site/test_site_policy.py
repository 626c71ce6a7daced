"""The site decides: what its policy lets in, what it holds a run to, and that rules only take away."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.site.approvals import Standing, id_of
from archipel.site.journal import Journal
from archipel.site.policy import Allowed, Judge, Pending, Refused
from archipel.spec import Blob, NamedModel, RoundTask, UnknownNameError, digest_of, encode
from archipel.spec.job import JobSpec
from archipel.spec.policy import SitePolicy, read_policy
from unit.site.site_fakes import SITE, make_job

NOON = dt.datetime(2026, 1, 1, 12, 0, tzinfo=dt.UTC)
FRESH = Standing()
EVERY = {"alone": True, "personalise_epochs": 1, "every": 2}
JOB = make_job(federation={"rounds": 4, "min_sites": 3}, evaluation=EVERY)
CROSS = make_job(federation={"rounds": 4, "min_sites": 3}, evaluation={**EVERY, "cross": True})
SECURE = make_job(federation={"min_sites": 3}, privacy={"secure_aggregation": "secagg"})
NOISY = make_job(
    federation={"rounds": 3, "weighting": "uniform"},
    evaluation={"personalise_epochs": 0},
    deployment={"serve": "global"},
    privacy={"statistics": False, "central": {"clip_norm": 1.0, "noise_multiplier": 4.0}},
)
"""Epsilon 1.698 for three rounds, at delta 1e-5 and for each site."""


HELPED = make_job(federation={"min_sites": 3}, privacy={"secure_aggregation": "two-server", "helper": "notary"})


def secure_over(sites: int) -> JobSpec:
    """A job with secure aggregation over at least so many sites."""
    return make_job(federation={"min_sites": sites}, privacy={"secure_aggregation": "secagg"})


def with_statistics(job: JobSpec) -> JobSpec:
    """A job that promises noise, and asks for sums without any."""
    return msgspec.structs.replace(job, privacy=msgspec.structs.replace(job.privacy, statistics=True))


def blob(name: str, size: int = 100) -> Blob:
    return Blob(digest=digest_of(name.encode()), size_bytes=size)


BUNDLE = blob("bundle")


def task(kind: str, step: int = 0, **changes: Any) -> RoundTask:
    made: dict[str, Any] = {"run": "run-1", "round": 0, "site": SITE, "kind": kind, "job": JOB, "bundle": BUNDLE}
    if kind in {"train", "personalise", "export"}:
        made["model"] = blob("model")
    if kind == "evaluate":
        made["models"] = (NamedModel(name="federated", blob=blob("model")),)
    return RoundTask(**{**made, "step": step, **changes})


def nobody(_job: JobSpec, _bundle: Blob) -> frozenset[str]:
    """Who signed."""
    return frozenset()


def judge(text: str) -> Judge:
    return Judge(read_policy(text.encode(), "policy.toml"), nobody)


def rule_of(said: object) -> str:
    """The rule that refused; what else was said, in brackets."""
    return said.rule if isinstance(said, Refused) else f"({said.waits})" if isinstance(said, Pending) else "(allowed)"


# ---- what is proposed -------------------------------------------------------------------------------------------


@dataclass
class Proposal:
    policy: str
    rule: str
    job: JobSpec = field(default_factory=lambda: JOB)
    says: str = ""


PROPOSALS = [
    *(Proposal("", "(allowed)", job) for job in (JOB, CROSS, SECURE, HELPED, NOISY, make_job(), secure_over(1))),
    Proposal('approve = "never"', "approve"),
    Proposal('approve = "once"', "(approval)"),
    Proposal('approve = "once"\nsecure_aggregation = true', "secure_aggregation"),  # nobody is asked in vain
    Proposal('[work]\ndatasets = ["birds"]', "(allowed)"),
    Proposal('[work]\ndatasets = ["fish"]', "work.datasets", says="birds"),
    Proposal('[work]\nnames = ["birds-2"]', "work.names"),
    Proposal(f'[work]\njobs = ["{JOB.digest}"]', "(allowed)"),
    Proposal(f'[work]\njobs = ["{SECURE.digest}"]', "work.jobs", says=JOB.digest),
    Proposal(f'[work]\nbundles = ["{BUNDLE.digest}"]', "(allowed)"),
    Proposal(f'[work]\nbundles = ["{blob("other").digest}"]', "work.bundles"),
    Proposal(f'[work]\ndatasets = ["birds"]\nbundles = ["{blob("other").digest}"]', "work.bundles"),
    Proposal("secure_aggregation = true", "secure_aggregation", says="the job has none"),
    Proposal("secure_aggregation = true", "(allowed)", SECURE),
    # A second server is trusted where the owner named it, or asks for no secure sums.
    Proposal("secure_aggregation = true", "helpers", HELPED, says="notary would take the masks off"),
    Proposal('secure_aggregation = true\n[helpers]\nnotary = "certified"', "(allowed)", HELPED),
    Proposal(f'[helpers]\nnotary = "{BUNDLE.digest}"', "(allowed)", HELPED),
    Proposal('[helpers]\nother = "certified"', "helpers", HELPED),
    Proposal('[helpers]\nother = "certified"', "(allowed)", SECURE),
    Proposal(f'[peers]\nann = "{BUNDLE.digest}"', "helpers", HELPED),
    Proposal("least_sites = 3", "(allowed)", HELPED),  # it waits for all
    Proposal("least_sites = 4", "least_sites", HELPED, says="may have 3 sites"),
    Proposal("least_sites = 3", "(allowed)"),
    Proposal("least_sites = 4", "least_sites", says="may have 3 sites, and this site wants 4"),
    Proposal("least_sites = 3", "least_sites", make_job(federation={"min_sites": 3, "cohort": 0.5}), says="2 sites"),
    Proposal(
        "least_sites = 4", "least_sites", make_job(federation={"min_sites": 5, "absent": "quorum", "quorum": 0.6})
    ),
    # Of 5 sites under secure aggregation one may drop out: 2 * 5 // 3 + 1 = 4.
    Proposal("least_sites = 5", "least_sites", secure_over(5), says="may have 4 sites"),
    Proposal("least_sites = 108", "(allowed)", secure_over(120)),  # of 120 a tenth may: 12
    Proposal("least_sites = 109", "least_sites", secure_over(120), says="may have 108 sites"),
    Proposal("least_sites = 109", "(allowed)", secure_over(10**9)),  # no ring is looked for
    Proposal("least_sites = 3", "(allowed)", secure_over(1)),  # there is no secure sum of fewer
    Proposal("least_sites = 4", "least_sites", secure_over(1), says="may have 3 sites"),
    Proposal('[epsilon]\nrun = 1.7\nunit = "site"', "(allowed)", NOISY),
    Proposal('[epsilon]\nrun = 1.69\nunit = "site"', "epsilon.run", NOISY, says="epsilon would be 1.7"),
    Proposal('[epsilon]\nrun = 1.7\nunit = "site"\ndelta = 1e-7', "epsilon.run", NOISY),  # whatever the job tells
    Proposal("[epsilon]\nrun = 9.0", "epsilon.run", NOISY, says="for each example, the job's noise for each site"),
    Proposal('[epsilon]\nrun = 9.0\nunit = "site"', "epsilon.run", says="no differential privacy"),
    Proposal('[epsilon]\nrun = 9.0\nunit = "site"', "epsilon.run", with_statistics(NOISY), says="sums over rows"),
    Proposal('[limits]\nmemory = "1 GB"', "(allowed)", make_job(resources={"memory_mb": 1000})),
    Proposal('[limits]\nmemory = "1 GB"', "limits.memory", make_job(resources={"memory_mb": 1001})),
    Proposal('[hours]\nbegin = "12:00"\nend = "12:01"\nzone = "UTC"', "(allowed)"),
    Proposal('[hours]\nbegin = "12:01"\nend = "12:00"\nzone = "UTC"', "(hours)"),
    Proposal('approve = "never"\n[hours]\nbegin = "12:01"\nend = "12:00"\nzone = "UTC"', "approve"),
]


@pytest.mark.parametrize("case", PROPOSALS, ids=lambda case: case.policy.replace("\n", " ")[:50] or "empty")
def test_a_job_is_held_against_each_rule(case: Proposal) -> None:
    said = judge(case.policy).verdict(task("check", job=case.job), FRESH, NOON)
    assert rule_of(said) == case.rule
    assert case.says in (said.message if isinstance(said, Refused) else "")


def test_a_refusal_says_no_digest_or_name_that_the_policy_lists() -> None:
    secret = blob("what the others run").digest
    said = judge(f'[work]\nnames = ["secret-study"]\njobs = ["{secret}"]').verdict(task("check"), FRESH, NOON)
    assert isinstance(said, Refused)
    told = str(said.as_error()) + said.hint
    assert "secret-study" not in told
    assert secret not in told


PARTS = [
    "secure_aggregation = true",
    "least_sites = 4",
    'approve = "once"',
    '[work]\ndatasets = ["fish"]',
    '[limits]\nmodel = "50 B"',
    '[hours]\nbegin = "22:00"\nend = "06:00"\nzone = "UTC"',
]
JOBS = [JOB, CROSS, SECURE, make_job(federation={"min_sites": 6})]


@settings(deadline=None)
@given(st.sets(st.sampled_from(PARTS)), st.sampled_from(JOBS), st.sampled_from(["check", "train"]), st.integers(0, 23))
def test_rules_only_take_away(parts: set[str], job: JobSpec, kind: str, hour: int) -> None:
    """What all rules together allow, each of them allows; and what each allows, all of them do."""
    asked = task(kind, step=int(kind == "train"), job=job)
    now = NOON.replace(hour=hour)
    together = judge("\n".join(sorted(parts, key=lambda part: part.startswith("[")))).verdict(asked, FRESH, now)
    each = [judge(part).verdict(asked, FRESH, now) for part in parts]
    assert isinstance(together, Allowed) is all(isinstance(one, Allowed) for one in each)
    assert isinstance(together, Refused) is any(isinstance(one, Refused) for one in each)


def test_an_approval_is_of_one_pair_and_can_be_taken_back(tmp_path: Path) -> None:
    once, known = judge('approve = "once"'), Journal(tmp_path / "journal.db").approvals
    asked = known.ask(task("check"), 1.0)
    assert known.ask(task("check", run="run-2"), 2.0) == asked, "it is asked once, whatever run asks"

    def says(**changes: Any) -> str:
        of = task("check", **changes)
        return rule_of(once.verdict(of, known.standing(of), NOON))

    assert says() == "(approval)"
    known.decide(asked, "approved", now=3.0, by="ada")
    assert says() == says(run="run-2") == "(allowed)"
    assert says(job=CROSS) == "(approval)"
    assert says(bundle=blob("other")) == "(approval)"
    known.decide(asked, "refused", now=4.0, by="bob")
    assert says() == "approve"
    [kept] = known.all()
    assert (kept.state, kept.decided_by, kept.decided_at, kept.asked_at) == ("refused", "bob", 4.0, 1.0)
    assert known.named(asked.name) == known.named(asked.id) == kept
    for name in (id_of(CROSS, BUNDLE), asked.name[:-1], ""):
        with pytest.raises(UnknownNameError):
            known.named(name)


def test_two_jobs_made_to_be_called_alike_are_told_apart(tmp_path: Path) -> None:
    """Two pairs with the same twelve digits are quickly found; what is approved is all sixty-four."""
    journal = Journal(tmp_path / "journal.db")
    asked = journal.approvals.ask(task("check"), 1.0)
    assert asked.id == id_of(JOB, BUNDLE)
    assert len(asked.id) == 64
    twin = msgspec.structs.replace(asked, id=asked.name + "0" * 52, job=CROSS)
    with journal._transaction() as db:
        db.execute("INSERT INTO approvals (id, approval) VALUES (?, ?)", (twin.id, encode(twin)))
    with pytest.raises(UnknownNameError, match="the beginning of 2") as both:
        journal.approvals.named(asked.name)
    assert asked.id in both.value.hint
    assert twin.id in both.value.hint
    journal.approvals.decide(journal.approvals.named(twin.id), "approved", now=2.0, by="ada")
    assert journal.approvals.standing(task("check")).approval == "waiting"


def test_people_are_not_buried_in_questions(tmp_path: Path) -> None:
    known = Journal(tmp_path / "journal.db").approvals
    full = msgspec.structs.replace(known.standing(task("check")), waiting=100)
    assert rule_of(judge('approve = "once"').verdict(task("check"), full, NOON)) == "approve"
    assert rule_of(judge("").verdict(task("check"), full, NOON)) == "(allowed)"


# ---- what is asked later ----------------------------------------------------------------------------------------


@dataclass
class Move:
    """What control asks after a run was begun, and the rule it meets."""

    name: str
    asked: RoundTask
    rule: str = "pinned"
    policy: str = ""


def lowered(**changes: Any) -> JobSpec:
    return make_job(federation={"rounds": 4, "min_sites": 3, **changes}, evaluation=EVERY)


TRAIN = task("train", 1)
MOVES = [
    Move("the same again", TRAIN, "(allowed)"),
    Move("the same, in another round", task("train", 1, round=9), "(allowed)"),
    Move("the next round", task("train", 2, model=blob("next")), "(allowed)"),
    Move("a scoring that the job has", task("evaluate", 2), "(allowed)"),
    Move("the last scoring", task("evaluate"), "(allowed)"),
    Move("another job", task("train", 2, job=CROSS)),
    Move("another bundle", task("train", 2, bundle=blob("other"))),
    Move("more rounds, by the job", task("train", 2, job=lowered(rounds=5))),
    Move("more rounds, by the task", task("train", 5)),
    Move("round nought", task("train", 0)),
    Move("a round twice, with another model", task("train", 1, model=blob("chosen"))),
    Move("a round twice, with other inputs", task("train", 1, variant={"mu": 1.0})),
    Move("a lowered cohort", task("train", 2, job=lowered(min_sites=1))),
    Move("longer training", task("train", 2, job=lowered(local={"epochs": 500}))),
    Move("a scoring too many", task("evaluate", 3)),
    Move(
        "a scoring of somebody else's model", task("evaluate", models=(NamedModel(name="alone/dream", blob=blob("x")),))
    ),
    Move("the model trained alone", task("alone", model=blob("model"), share=True)),
    Move("the personalised model", task("personalise", share=True)),
    Move("a model too large", task("train", 2, model=blob("next", 10**9)), "limits.model", '[limits]\nmodel = "1 MB"'),
    Move("too many bytes", task("train", 2, model=blob("next", 10**9)), "limits.network", '[limits]\nnetwork = "1 MB"'),
    Move(
        "more than the disk may take",
        task("train", 2, model=blob("n", 10**9)),
        "limits.disk",
        '[limits]\ndisk = "1 MB"',
    ),
]


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.name)
def test_a_run_is_held_to_what_it_was_begun_with(move: Move, tmp_path: Path) -> None:
    known = Journal(tmp_path / "journal.db").approvals
    assert known.pin(task("check"))
    assert not known.pin(TRAIN)
    said = judge(move.policy).verdict(move.asked, known.standing(move.asked), NOON)
    assert rule_of(said) == move.rule


@pytest.mark.parametrize(
    ("kind", "job"),
    [
        ("alone", make_job(evaluation={"alone": False})),
        ("personalise", make_job(evaluation={"personalise_epochs": 0})),
        ("statistics", make_job(privacy={"statistics": False})),
        ("export", make_job(deployment={"serve": "none"})),
    ],
)
def test_what_the_job_does_not_have_is_refused_in_a_run_that_just_begins(kind: str, job: JobSpec) -> None:
    assert rule_of(judge("").verdict(task(kind, job=job), FRESH, NOON)) == "pinned"


def test_a_model_that_stays_here_is_neither_exported_for_others_nor_worked_on(tmp_path: Path) -> None:
    """Its digest is told in an update, so control can name it."""
    journal = Journal(tmp_path / "journal.db")
    with journal._transaction() as db:
        db.execute("INSERT INTO kept VALUES (?, ?)", ("run-0", blob("own").digest))

    def says(kind: str, **changes: Any) -> str:
        of = task(kind, model=blob("own"), **changes)
        return rule_of(judge("").verdict(of, journal.approvals.standing(of), NOON))

    assert says("export", share=True) == "pinned"
    assert says("train", step=1) == "pinned"
    assert says("export") == "(allowed)"


def test_the_steps_of_a_secure_sum_go_on_outside_of_hours_and_with_the_run_s_own_job(tmp_path: Path) -> None:
    known = Journal(tmp_path / "journal.db").approvals
    known.pin(task("check", job=SECURE))
    closed = judge('[hours]\nbegin = "13:00"\nend = "12:00"\nzone = "UTC"')

    def says(leg: str, job: JobSpec = SECURE) -> str:
        of = task("train", 1, job=job, leg=leg, message=b"terms")
        return rule_of(closed.verdict(of, known.standing(of), NOON))

    assert says("compute") == "(hours)"
    assert says("mask") == says("release") == "(allowed)"
    assert says("mask", make_job()) == "pinned"


def test_a_secure_sum_may_be_tried_again_over_the_same_model_only(tmp_path: Path) -> None:
    known = Journal(tmp_path / "journal.db").approvals
    first = task("train", 1, job=SECURE, leg="compute", round=7)
    known.pin(first)
    for changes, rule in (({"round": 13}, "(allowed)"), ({"round": 13, "model": blob("other")}, "pinned")):
        again = msgspec.structs.replace(first, **changes)
        assert rule_of(judge("").verdict(again, known.standing(again), NOON)) == rule


def test_a_run_that_is_forgotten_is_held_to_nothing_and_its_approval_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    asked = journal.approvals.ask(task("check"), 1.0)
    journal.approvals.decide(asked, "approved", now=2.0, by="ada")
    journal.approvals.pin(TRAIN)
    assert journal.remembered() == ("run-1",)
    journal.forget("run-1")
    assert journal.remembered() == ()
    assert journal.approvals.standing(TRAIN) == Standing(approval="approved")


def test_what_was_found_of_a_job_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from archipel.site.policy import judge as module

    looks: list[str] = []
    found = module.judge_proposal
    monkeypatch.setattr(module, "judge_proposal", lambda *of: looks.append(of[1].digest) or found(*of))
    one = Judge(SitePolicy(), nobody)
    for job in (JOB, JOB, CROSS, JOB):
        one.verdict(task("check", job=job), FRESH, NOON)
    assert looks == [JOB.digest, CROSS.digest]
