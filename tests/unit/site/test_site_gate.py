"""A hostile control plane against a real agent with a policy; and what people at the site see and say."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archipel.cli.main import main
from archipel.data.bundle import pack_bundle
from archipel.security import key_digest, load_or_make_key
from archipel.security.privacy.budget import Budget
from archipel.site.agent import SiteFolder, read_status
from archipel.site.agent.agent import Agent
from archipel.site.agent.desk import Desk
from archipel.site.journal import Journal
from archipel.spec import (
    Blob,
    NamedModel,
    Refusal,
    RoundTask,
    SpecError,
    StateError,
    UnknownNameError,
    Update,
    digest_of,
    read_job,
)
from archipel.spec.job import JobSpec
from archipel.spec.policy import read_policy
from unit.site.site_fakes import SITE, FakeControl, living, make_job, put_bundle

JOB = make_job(federation={"rounds": 3, "min_sites": 3})
NOISY = make_job(
    federation={"rounds": 3, "weighting": "uniform"},
    evaluation={"personalise_epochs": 0},
    deployment={"serve": "global"},
    privacy={"statistics": False, "central": {"clip_norm": 1.0, "noise_multiplier": 4.0}},
)
"""Epsilon 1.698 a run."""
SIGNED = """
name = "birds"
[task]
code = "task.py:Birds"
[data]
dataset = "birds"
"""


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is let in is answered without a worker: the gate stands before it, and all else is the agent's own."""

    async def made(_: Desk, task: RoundTask) -> tuple[Update, dict[str, Blob]]:
        return Update(run=task.run, round=task.round, site=task.site, kind=task.kind), {}

    monkeypatch.setattr(Desk, "_made", made)


class Asking:
    """Control asks one thing after another."""

    def __init__(self, control: FakeControl, folder: Path) -> None:
        self.control = control
        self.bundle = put_bundle(control.spool, folder / "job")
        self.other = put_bundle(control.spool, folder / "other", "x = 1\n")
        self.model = control.spool.put(b"a model")
        self.chosen = control.spool.put(b"another model")
        self.asked = 0

    def task(self, kind: str, *, run: str = "run-1", job: JobSpec = JOB, **more: Any) -> RoundTask:
        self.asked += 1
        fields = {"bundle": self.bundle, **more}
        return RoundTask(run=run, round=self.asked, site=SITE, kind=kind, job=job, **fields)  # type: ignore[arg-type]

    async def __call__(self, kind: str, **more: Any) -> str:
        """Ask, and return "done" or the refusal."""
        task = self.task(kind, **more)
        self.control.assign(task)
        return told(await self.control.answered(task))

    async def held(self, task: RoundTask, waits: str) -> None:
        """Ask, and wait until the site says that it waits for this."""
        self.control.assign(task)
        await self.control.until(
            lambda: any(
                (work.round, work.waits) == (task.round, waits) for beat in self.control.beats for work in beat.working
            )
        )
        assert (task.run, task.round) not in self.control.answers

    async def released(self, task: RoundTask) -> str:
        return told(await self.control.answered(task))


@contextlib.asynccontextmanager
async def running(place: SiteFolder) -> AsyncIterator[None]:
    """An agent that holds its folder, as a process of its own would."""
    with place.locked():
        async with living(place):
            yield


def told(answer: Update | Refusal) -> str:
    return "done" if isinstance(answer, Update) else f"{answer.error}: {answer.message}"


@pytest.fixture
def ask(control: FakeControl, tmp_path: Path) -> Asking:
    return Asking(control, tmp_path)


def run_main(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    main(words)
    return capsys.readouterr().out


def train(ask: Asking, step: int = 1, **more: Any) -> dict[str, Any]:
    return {"step": step, "model": ask.model, **more}


def settings(**federation: Any) -> JobSpec:
    return make_job(federation={"rounds": 3, "min_sites": 3, **federation})


ATTACKS: list[tuple[str, Callable[[Asking], dict[str, Any]], str]] = [
    ("another job", lambda ask: train(ask, job=make_job()), "pinned: run run-1 was begun with another job"),
    ("another bundle", lambda ask: train(ask, bundle=ask.other), "pinned: run run-1 was begun with another bundle"),
    ("more rounds", lambda ask: train(ask, 4), "pinned: the job has 3 training rounds"),
    ("more rounds, in the job too", lambda ask: train(ask, 4, job=settings(rounds=9)), "pinned: run run-1 was begun"),
    ("a round twice", lambda ask: train(ask, model=ask.chosen), "pinned: train of round 1 was asked with other"),
    ("a lowered cohort", lambda ask: train(ask, 2, job=settings(min_sites=1)), "pinned: run run-1 was begun"),
    ("other local training", lambda ask: train(ask, 2, job=settings(local={"epochs": 500})), "pinned: run run-1"),
    (
        "no secure aggregation any more",
        lambda ask: train(ask, 2, job=msgspec.structs.replace(SECURE, privacy=JOB.privacy), run="run-2"),
        "pinned: run run-2 was begun with another job",
    ),
    ("a plain sum", lambda ask: train(ask, 1, job=SECURE, run="run-2"), "train is asked in plain"),
    (
        "models of others",
        lambda ask: {"kind": "evaluate", "models": (NamedModel(name="alone/dream", blob=ask.model),)},
        "pinned: the job shows no site the models of others",
    ),
    ("work the job has not", lambda ask: {"kind": "alone", "model": ask.model}, "pinned: the job has no alone"),
    (
        "the personalised model",
        lambda ask: {"kind": "personalise", "model": ask.model, "share": True},
        "pinned: the model of personalise stays at its site",
    ),
    ("a job for few sites", lambda _: {"kind": "check", "job": make_job(), "run": "run-3"}, "least_sites: "),
    ("a data set not named", lambda _: {"kind": "check", "job": FISH, "run": "run-4"}, "work.datasets: fish"),
    ("a new job", lambda _: {"kind": "check", "job": settings(rounds=4), "run": "run-5"}, "approve: a person at"),
]
SECURE = make_job(federation={"rounds": 3, "min_sites": 3}, privacy={"secure_aggregation": "secagg"})
FISH = make_job(federation={"min_sites": 3}, data={"dataset": "fish"})


@pytest.mark.attack("hostile control", "have work done that a site's policy does not let in")
async def test_a_hostile_control_plane_is_refused_by_name_and_every_move_is_in_the_sites_own_log(
    place: SiteFolder,
    ask: Asking,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    record_property("tries", len(ATTACKS))
    place.policy.write_text('approve = "once"\nleast_sites = 3\n[work]\ndatasets = ["birds"]\n')
    monkeypatch.undo()  # the steps of secure aggregation are the agent's own; here no worker is reached

    async def executed(_: Desk, task: RoundTask) -> tuple[Update, dict[str, Blob]]:
        return Update(run=task.run, round=task.round, site=task.site, kind=task.kind), {}

    monkeypatch.setattr(Desk, "_execute", executed)
    journal = Journal(place.journal)
    for job, decision in ((JOB, "approved"), (SECURE, "approved"), (settings(rounds=4), "refused")):
        asked = journal.approvals.ask(ask.task("check", job=job), 1.0)
        journal.approvals.decide(asked, decision, now=2.0, by="ada")  # type: ignore[arg-type]
    async with living(place):
        assert await ask("check") == "done"
        assert await ask("train", **train(ask)) == "done"
        assert await ask("check", job=SECURE, run="run-2") == "done"
        answers = {}
        for name, move, _ in ATTACKS:
            answers[name] = await ask(**{"kind": "train", **move(ask)})
        assert await ask("train", **train(ask, 2)) == "done", "the honest run goes on"
    for name, _, reason in ATTACKS:
        assert reason in answers[name], name
    refused = [event for event in journal.logged() if event.what == "site.refused"]
    assert [f"{event.detail['error']}: {event.detail['message']}" for event in refused] == list(answers.values())
    assert [event.run for event in journal.logged() if event.what == "site.run.begun"] == ["run-1", "run-2"]
    shown = run_main(capsys, "policy", "refusals", str(place.path))
    assert shown.count("\n") == len(ATTACKS)
    assert "PolicyError: work.datasets: fish: it is none of those" in shown


async def test_a_new_job_waits_for_a_person_who_reads_its_code_and_then_goes_on_by_itself(
    place: SiteFolder, control: FakeControl, ask: Asking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.policy.write_text('approve = "once"\n')
    folder = str(place.path)
    async with running(place):
        first = ask.task("check")
        await ask.held(first, "approval")
        await control.until(lambda: bool(control.notes))
        assert [(note.what, note.run, note.detail) for note in control.notes] == [
            ("site.waits", "run-1", {"for": "approval"})
        ]
        [asked] = json.loads(run_main(capsys, "policy", "approvals", folder, "--json"))["approvals"]
        assert (asked["state"], asked["run"], asked["bundle"]["digest"]) == ("waiting", "run-1", ask.bundle.digest)
        assert "federation.rounds = 3" in run_main(
            capsys, "policy", "approvals", folder, asked["id"], "--code", str(tmp_path / "code")
        )
        assert "class Birds" in (tmp_path / "code" / "task.py").read_text()
        await control.until(lambda: (said := read_status(place.path)) is not None and any(said.working))
        shown = run_main(capsys, "status", "--folder", folder)
        assert "working on run-1 waits for approval by its own people" in shown
        assert f"policy {digest_of(place.policy.read_bytes())}" in shown
        assert "approved: birds" in run_main(capsys, "policy", "approve", folder, asked["id"])
        assert await ask.released(first) == "done"
        assert await ask("check", run="run-2") == "done", "the same job and code are not asked about again"
        run_main(capsys, "policy", "refuse", folder, asked["id"])
        assert "approve: a person" in await ask("train", **train(ask))
    done = [(event.what, event.actor.partition("/")[0]) for event in Journal(place.journal).logged()]
    assert done == [
        ("site.policy.read", "site"),
        ("site.job.approved", "person"),
        ("site.run.begun", "site"),
        ("site.run.begun", "site"),
        ("site.job.refused", "person"),
        ("site.refused", "site"),
    ]


async def test_an_agent_that_starts_again_still_waits_for_the_same_approval(
    place: SiteFolder, control: FakeControl, ask: Asking
) -> None:
    place.policy.write_text('approve = "once"\n')
    first = ask.task("check")
    async with living(place):
        await ask.held(first, "approval")
    control.beats.clear()
    async with living(place):
        await ask.held(first, "approval")
        [asked] = Journal(place.journal).approvals.all()
        Journal(place.journal).approvals.decide(asked, "approved", now=1.0, by="ada")
        assert await ask.released(first) == "done"


async def test_work_waits_for_its_hours(place: SiteFolder, ask: Asking) -> None:
    later = 0.0

    def clock() -> float:
        return time.time() + later

    def at(minutes: int) -> str:
        return time.strftime("%H:%M", time.gmtime(time.time() + 60 * minutes))

    place.policy.write_text(f'[hours]\nbegin = "{at(60)}"\nend = "{at(180)}"\nzone = "UTC"\n')
    async with living(place, clock=clock):
        first = ask.task("check")
        await ask.held(first, "hours")
        later = 2 * 3600.0
        assert await ask.released(first) == "done"


async def test_a_policy_that_breaks_while_the_agent_runs_lets_nothing_begin_until_it_is_mended(
    place: SiteFolder, control: FakeControl, ask: Asking
) -> None:
    place.policy.write_text("least_sites = 3\n")
    async with living(place):
        assert await ask("check") == "done"
        place.policy.write_text("least_site = 3\n")
        first = ask.task("train", **train(ask))
        await ask.held(first, "policy")
        await control.until(lambda: (status := read_status(place.path)) is not None and "least_site" in status.error)
        assert not any("least_site" in str(note.detail) for note in control.notes), "control hears nothing of it"
        place.policy.unlink()
        second = ask.task("train", **train(ask, 2))
        await ask.held(second, "policy")
        place.policy.write_text("least_sites = 4\n")
        assert "least_sites: " in await ask.released(first)
        assert "least_sites: " in await ask.released(second)
        place.policy.write_text("")
        assert await ask("train", **train(ask)) == "done"


@pytest.mark.parametrize(
    ("text", "error"), [("approve = 'perhaps'", SpecError), ("aprove = 'once'", UnknownNameError), ("[[", SpecError)]
)
async def test_an_agent_does_not_start_with_a_policy_it_cannot_read(
    place: SiteFolder, text: str, error: type[SpecError]
) -> None:
    place.policy.write_text(text)
    with pytest.raises(error, match=r"policy\.toml"):
        Agent(place)


@pytest.mark.attack("hostile control", "have a policy lifted by its loss")
async def test_a_policy_that_was_in_force_cannot_be_lifted_by_losing_its_file(place: SiteFolder) -> None:
    place.policy.write_text("least_sites = 3\n")
    async with living(place):
        pass
    place.policy.unlink()
    with pytest.raises(StateError, match="is gone") as gone:
        Agent(place)
    assert "an empty file" in gone.value.hint
    place.policy.write_text("")
    async with living(place):
        pass
    digests = [event.detail["policy"] for event in Journal(place.journal).logged()]
    assert len(set(digests)) == 2


async def test_without_a_policy_nothing_is_asked_and_nothing_kept(place: SiteFolder, ask: Asking) -> None:
    async with living(place):
        assert await ask("check") == "done"
        assert await ask("train", **train(ask, 9, job=make_job())) == "done"
    journal = Journal(place.journal)
    assert journal.logged() == ()
    assert journal.approvals.all() == ()
    assert journal._read("SELECT * FROM pins") == []


async def test_all_runs_on_a_data_set_cost_together_what_the_policy_lets_them(place: SiteFolder, ask: Asking) -> None:
    """One costs 1.7, two cost 2.5: by the policy's 2.3 the second is refused, whatever the ledger's budget is."""
    Journal(place.journal).ledger.set_budget(Budget(dataset="birds", unit="site", epsilon=100.0))
    place.policy.write_text('[epsilon]\nrun = 2.0\ndataset = 2.3\nunit = "site"\n')
    async with living(place):
        assert await ask("check", job=NOISY) == "done"
        refused = await ask("check", job=NOISY, run="run-2")
    assert refused.startswith("BudgetError: data set 'birds': with this run, epsilon would be 2.5")
    assert "its budget is 2.3; 1.7 is" in refused


@pytest.mark.attack("hostile control", "have code run that nobody trusted has signed")
async def test_only_what_somebody_trusted_has_signed_is_let_in(
    place: SiteFolder, control: FakeControl, ask: Asking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job_file = tmp_path / "job" / "job.toml"
    job_file.write_text(SIGNED)
    keys = []
    for name in ("ada", "eve"):
        words = ("sign", str(job_file), "--key", str(tmp_path / f"{name}.pem"))
        keys.append(run_main(capsys, *words).strip())
        if name == "ada":
            of_ada = control.spool.put(pack_bundle(job_file.parent, ["*.py"]))
            for signature in (job_file.parent / "signatures").iterdir():
                signature.unlink()
    of_eve = control.spool.put(pack_bundle(job_file.parent, ["*.py"]))
    job = read_job(job_file)
    place.policy.write_text(f'[work]\nsigners = ["{keys[0]}"]\n')
    async with living(place):
        assert await ask("check", job=job, bundle=of_ada) == "done"
        for run, more in (("run-2", {"bundle": of_eve}), ("run-3", {"bundle": ask.bundle}), ("run-4", {"job": JOB})):
            refused = await ask("check", run=run, **{"job": job, "bundle": of_ada, **more})
            assert refused.startswith("PolicyError: work.signers: nobody this site trusts"), run


async def test_secure_sums_are_held_to_the_policys_own_least_number_of_sites(place: SiteFolder) -> None:
    for text, least in (("", 3), ("least_sites = 2", 3), ("least_sites = 5", 5)):
        place.policy.write_text(text)
        async with living(place) as agent:
            pem = agent._identity.certificate.certificate_pem
            assert agent._desk._secure._member(pem).policy.min_sites == least


async def test_a_helpers_key_is_pinned_where_the_policy_has_its_digest(place: SiteFolder) -> None:
    digest = digest_of(b"the helper's key")
    place.policy.write_text(f'[helpers]\nnotary = "{digest}"\nother = "certified"\n')
    async with living(place) as agent:
        assert [agent._gate.helper_pin(name) for name in ("notary", "other", "third")] == [digest, None, None]


def test_a_policy_is_checked_and_shown(place: SiteFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(place.path)
    assert exit_of("policy", "check", folder) == StateError.exit_code
    place.policy.write_text('[limits]\nmemory = "8 GB"\n')
    assert 'limits.memory = "8 GB"' in run_main(capsys, "policy", "check", folder)
    shown = json.loads(run_main(capsys, "policy", "check", folder, "--json"))
    assert shown["policy"]["approve"] == "always"
    place.policy.write_text("[limit]\n")
    assert exit_of("policy", "check", folder) == UnknownNameError.exit_code
    assert "did you mean 'limits'?" in capsys.readouterr().err


def test_the_line_that_others_policies_know_a_site_by_names_its_key(
    place: SiteFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    line = run_main(capsys, "policy", "key", str(place.path)).strip()
    peers = read_policy(f"[peers]\n{line}\n".encode(), "policy.toml").peers
    assert peers == {SITE: key_digest(load_or_make_key(place.key).public_key())}
    assert json.loads(run_main(capsys, "policy", "key", str(place.path), "--json")) == {
        "site": SITE,
        "key": peers[SITE],
    }
    place.key.unlink()
    assert exit_of("policy", "key", str(place.path)) == SpecError.exit_code


def test_nothing_asked_and_nothing_refused_is_said_so(place: SiteFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(place.path)
    assert "no job was ever put before people" in run_main(capsys, "policy", "approvals", folder)
    assert "nothing was refused" in run_main(capsys, "policy", "refusals", folder)
    assert exit_of("policy", "approve", folder, "0123456789ab") == UnknownNameError.exit_code
    assert exit_of("policy", "approvals", str(place.path / "nowhere")) == StateError.exit_code


def exit_of(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)
