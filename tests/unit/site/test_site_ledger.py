"""The privacy ledger: who is let in, what counts when, what control may try, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archipel.cli.main import main
from archipel.federated.secure.legs import LEGS
from archipel.security.privacy import epsilon_of
from archipel.security.privacy.budget import Budget
from archipel.site.agent import SiteFolder
from archipel.site.journal import SCHEMAS, VERSION, Journal
from archipel.spec import (
    Blob,
    BudgetError,
    NamedModel,
    Part,
    Refusal,
    RoundTask,
    SpecError,
    UnknownNameError,
    Update,
    digest_of,
    encode,
)
from archipel.spec.job import JobSpec
from unit.site.site_fakes import SITE, FakeControl, living, make_job, put_bundle
from unit.site.site_runs import Run

ROUNDS = 3
PRIVATE = {"statistics": False, "central": {"clip_norm": 1.0, "noise_multiplier": 4.0, "delta": 1e-5}}


def private_job(**privacy: Any) -> JobSpec:
    return make_job(
        federation={"rounds": ROUNDS, "weighting": "uniform"},
        evaluation={"personalise_epochs": 0, "every": 2},
        deployment={"serve": "none"},
        privacy={**PRIVATE, **privacy},
    )


JOB = private_job()
ONE_RUN = 1.698
"""Epsilon of three Gaussians of four: what one run reserves."""


def blob(name: str) -> Blob:
    return Blob(digest=digest_of(name.encode()), size_bytes=len(name))


def task(kind: str, step: int = 0, run: str = "run-1", job: JobSpec = JOB, model: str = "m") -> RoundTask:
    models = (NamedModel(name="federated", blob=blob(model)),) if kind == "evaluate" else ()
    made = {"run": run, "round": 10 + step, "site": SITE, "kind": kind, "job": job, "bundle": blob("bundle")}
    return RoundTask(**made, step=step, model=blob(f"{model}-{step}"), models=models)  # type: ignore[arg-type]


def answer(of: RoundTask) -> Update:
    return Update(run=of.run, round=of.round, site=SITE, kind=of.kind, parts={"delta": Part(blob=blob("delta"))})


def do(journal: Journal, of: RoundTask) -> None:
    """What the desk does with a task."""
    journal.assign(of)
    journal.ledger.admit(of)
    journal.finish(of, answer(of), {})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "journal.db")
    made.register({"birds": tmp_path})
    made.ledger.set_budget(Budget(dataset="birds", unit="site", epsilon=2.3))
    return made


def epsilon(journal: Journal) -> tuple[float, float]:
    [account] = journal.ledger.accounts()
    return account.spent, account.reserved


# ---- reserve, spend, free ---------------------------------------------------------------------------------------


def test_a_run_reserves_all_its_rounds_spends_them_one_by_one_and_frees_the_rest(journal: Journal) -> None:
    journal.ledger.admit(task("check"))
    assert epsilon(journal) == (0, pytest.approx(ONE_RUN, abs=0.01))
    do(journal, task("train", 1))
    spent, reserved = epsilon(journal)
    assert 0 < spent < reserved == pytest.approx(ONE_RUN, abs=0.01)
    journal.forget("run-1")
    assert epsilon(journal) == (spent, spent)


def test_a_run_that_would_cost_too_much_is_refused_with_what_is_left_before_it_works(journal: Journal) -> None:
    journal.ledger.admit(task("check"))
    with pytest.raises(
        BudgetError, match=r"epsilon would be 2\.\d+ at delta 1e-05, and its budget is 2\.3; 1\.7 "
    ) as no:
        journal.ledger.admit(task("check", run="run-2"))
    assert "fewer rounds or more noise" in no.value.hint
    journal.forget("run-1")  # it released nothing
    journal.ledger.admit(task("check", run="run-2"))


@pytest.mark.attack("hostile control", "spend one budget in two runs at once")
def test_of_two_runs_that_reserve_at_the_same_time_one_is_refused(tmp_path: Path, journal: Journal) -> None:
    """Each fits alone; both read the ledger before either has written."""
    together = threading.Barrier(2)
    ended: dict[str, str] = {}

    def reserve(run: str) -> None:
        mine = Journal(tmp_path / "journal.db")
        claims = mine.ledger._claims

        def read_at_the_same_time(dataset: str) -> Any:
            found = claims(dataset)
            if together is not None and not found:
                together.wait(30)
            return found

        mine.ledger._claims = read_at_the_same_time
        try:
            mine.ledger.admit(task("check", run=run))
            ended[run] = "reserved"
        except BudgetError:
            ended[run] = "refused"
        mine.close()

    threads = [threading.Thread(target=reserve, args=(run,)) for run in ("run-1", "run-2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended.values()) == ["refused", "reserved"]
    assert epsilon(journal)[1] == pytest.approx(ONE_RUN, abs=0.01)


def test_work_that_is_done_again_for_the_same_task_counts_once(journal: Journal) -> None:
    for _ in range(3):
        do(journal, task("train", 1))
    [account] = journal.ledger.accounts()
    assert account.runs[0].rounds_spent == 1


def test_a_secure_sum_counts_once_from_when_its_masked_vector_is_stored(journal: Journal) -> None:
    shared = {"clip_norm": 1.0, "noise_multiplier": 4.0}
    job = private_job(central=None, distributed=shared, secure_aggregation="secagg")

    def spent(step: int, leg: str, attempt: int = 0) -> int:
        of = msgspec.structs.replace(task("train", step, job=job), leg=leg, message=f"attempt {attempt}".encode())
        do(journal, msgspec.structs.replace(of, round=100 * step + 10 * attempt + LEGS.index(leg)))
        return journal.ledger.accounts()[0].runs[0].rounds_spent

    for step in range(1, ROUNDS + 1):
        assert [spent(step, leg) for leg in LEGS[:3]] == [step - 1] * 3
        assert [spent(step, leg) for leg in LEGS[3:]] == [step] * 3
        assert [spent(step, leg, attempt=1) for leg in LEGS[1:]] == [step] * 5
    with pytest.raises(BudgetError, match="has made its 3 releases"):
        spent(ROUNDS + 1, "compute")


def test_runs_are_composed_and_not_added_up(journal: Journal) -> None:
    journal.ledger.set_budget(Budget(dataset="birds", unit="site", epsilon=50))
    for run in ("run-1", "run-2"):
        journal.ledger.admit(task("check", run=run))
    event = journal.ledger._claims("birds")[0].releases.event(2 * ROUNDS)
    assert epsilon(journal)[1] == pytest.approx(epsilon_of(event, delta=1e-5), rel=1e-3)
    assert epsilon(journal)[1] < 2 * ONE_RUN


def test_without_a_budget_a_private_run_is_let_in_and_written_down(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    do(journal, task("train", 1))
    [account] = journal.ledger.accounts()
    assert account.budget is None
    assert account.spent > 0
    journal.ledger.set_budget(Budget(dataset="birds", unit="site", epsilon=2.3))
    with pytest.raises(BudgetError):
        journal.ledger.admit(task("check", run="run-2"))


# ---- what control may try ---------------------------------------------------------------------------------------

NOISELESS = make_job(evaluation={"personalise_epochs": 0})
MORE = msgspec.structs.replace(JOB, federation=msgspec.structs.replace(JOB.federation, rounds=100))
WEAKER = private_job(central={**PRIVATE["central"], "noise_multiplier": 0.1})  # type: ignore[dict-item]
SEEDED = private_job(central={**PRIVATE["central"], "seed": 1})  # type: ignore[dict-item]
OWN = msgspec.structs.replace(task("evaluate"), models=(NamedModel(name="alone/x", blob=blob("a")),))

ATTACKS = {
    "a job without noise": (task("check", job=NOISELESS, run="run-2"), "has no differential privacy"),
    "training without noise, with no check before": (task("train", 1, job=NOISELESS, run="run-2"), "has no diff"),
    "noise that can be taken off": (task("check", job=SEEDED, run="run-2"), "seed that everybody knows"),
    "the same run with more rounds": (task("train", 1, job=MORE), "with another job"),
    "the same run with less noise": (task("train", 1, job=WEAKER), "with another job"),
    "a new run with less noise": (task("check", job=WEAKER, run="run-2"), "epsilon would be"),
    "one more round than reserved": (task("train", 4), "has made its 3 releases of kind 'train'"),
    "the last round again, from another model": (task("train", 3, model="other"), "has made its 3 releases"),
    "sums over rows": (task("statistics"), "sums over rows would leave"),
    "a model trained alone": (task("alone"), "trained without noise"),
    "a personalised model": (task("personalise"), "trained without noise"),
    "scores of a site's own model": (OWN, "other models"),
    "one more scoring than the job has": (task("evaluate", 9, model="b"), "has made its 2 releases of kind 'evaluate'"),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.attack(
    "hostile control", "spend more than a privacy budget", open="a state put back forgets what was spent since."
)
def test_a_hostile_control_plane_cannot_make_the_site_spend_more(journal: Journal, name: str) -> None:
    for step in (1, 2, 3):
        do(journal, task("train", step))
    for step in (0, 2):
        do(journal, task("evaluate", step))
    before = epsilon(journal)
    attack, said = ATTACKS[name]
    with pytest.raises((BudgetError, SpecError), match=said):
        do(journal, attack)
    if attack.kind in {"train", "evaluate"} and attack.run == "run-1":
        with pytest.raises(BudgetError, match=said):  # nor where the first look is passed by
            journal.finish(attack, answer(attack), {})
    assert epsilon(journal) == before


@pytest.mark.attack("hostile control", "go on with a run that is over")
def test_a_run_that_is_over_holds_no_budget_even_where_control_goes_on_with_it(journal: Journal) -> None:
    do(journal, task("train", 1))
    journal.forget("run-1")
    for again in (task("train", 1), task("train", 2), task("evaluate", 2)):
        with pytest.raises(BudgetError, match="is over"):
            do(journal, again)


def test_the_owner_frees_what_a_run_that_will_not_go_on_has_reserved(journal: Journal) -> None:
    do(journal, task("train", 1))
    journal.ledger.close("run-1")
    light = private_job(central={**PRIVATE["central"], "noise_multiplier": 9.0})  # type: ignore[dict-item]
    journal.ledger.admit(task("check", run="run-2", job=light))
    with pytest.raises(UnknownNameError, match="run with a reservation here: 'run-1'"):
        journal.ledger.close("run-1")
    with pytest.raises(BudgetError, match="is over"):
        do(journal, task("train", 2))


def test_a_budget_for_examples_is_not_paid_by_noise_for_sites(journal: Journal) -> None:
    journal.ledger.set_budget(Budget(dataset="birds", unit="example", epsilon=100))
    with pytest.raises(BudgetError, match="is for each example, the job's noise for each site"):
        journal.ledger.admit(task("check"))


# ---- kills ------------------------------------------------------------------------------------------------------

RELEASING = """
import sys
from pathlib import Path
from archipel.site.journal import Journal
from archipel.spec import RoundTask, Update, decode
journal = Journal(Path(sys.argv[1]))
for line in Path(sys.argv[2]).read_bytes().splitlines():
    task = decode(line, RoundTask)
    journal.assign(task)
    journal.ledger.admit(task)
    journal.finish(task, Update(run=task.run, round=task.round, site=task.site, kind=task.kind), {})
"""
POINTS = (
    "site.assign.before_journal",
    "site.assign.after_journal",
    "site.finish.before_journal",
    "site.finish.inside_journal",
    "site.finish.after_journal",
)


@pytest.mark.attack("crash", "have an answer counted twice, or not at all, in the privacy ledger", result="survived")
def test_killed_anywhere_an_answer_and_what_it_costs_are_both_there_or_neither(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("tries", len(POINTS))
    path, tasks = tmp_path / "journal.db", tmp_path / "tasks"
    tasks.write_bytes(b"\n".join(encode(task("train", step)) for step in (1, 2)))
    command = [sys.executable, "-c", RELEASING, str(path), str(tasks)]
    environment = {**os.environ, "ARCHIPEL_FAILPOINT": f"{','.join(POINTS)}@{tmp_path / 'died'}"}
    for point in POINTS:
        killed = subprocess.run(command, env=environment, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert (tmp_path / "died").read_text().split()[-1] == point
        with closing(Journal(path)) as journal:
            stored = sum(work.answer is not None for work in journal.in_hand())
            spent = sum(run.rounds_spent for account in journal.ledger.accounts() for run in account.runs)
        assert spent == stored == (point == "site.finish.after_journal")
    subprocess.run(command, env=environment, check=True)
    with closing(Journal(path)) as journal:
        [account] = journal.ledger.accounts()
    assert account.runs[0].rounds_spent == 2, "each round counts once, whatever was done again"


def test_the_journal_of_an_older_version_gets_the_tables_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as db:
        db.executescript(f"{SCHEMAS[0]} INSERT INTO settings VALUES ('site', 'reef'); PRAGMA user_version = 1;")
    db.close()
    again = Journal(path)
    do(again, task("train", 1))
    assert again.setting("site") == "reef"
    assert again._read("PRAGMA user_version") == [(VERSION,)]


# ---- through the agent, and for people --------------------------------------------------------------------------


async def test_an_agent_refuses_the_second_run_before_its_data_are_read(
    control: FakeControl, place: SiteFolder, tmp_path: Path
) -> None:
    bundle = put_bundle(control.spool, tmp_path / "job")
    journal = Journal(place.journal)
    journal.ledger.set_budget(Budget(dataset="birds", unit="site", epsilon=2.3))
    async with living(place):
        first, second = Run(control, JOB, bundle), Run(control, JOB, bundle, "run-2")
        await first.stage("check", "check")
        asked = second.task("check")
        control.assign(asked)
        refused = await control.answered(asked)
        assert isinstance(refused, Refusal)
        assert refused.error == "BudgetError"
        assert "its budget is 2.3" in refused.message
        model = (await first.stage("initialise", "initialise", share=True)).parts["model"].blob
        trained = await first.stage("train", "train", step=1, model=model, clip_norm=1.0)
    assert trained.weight == 1
    assert trained.metrics.keys() == {"within_clip"}, "sums over training rows have no noise"
    [account] = journal.ledger.accounts()
    assert [(run.run, run.rounds_spent) for run in account.runs] == [("run-1", 1)]


def run_main(*words: str) -> int:
    try:
        main(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_ledger_is_shown_to_people_and_tools_and_takes_a_budget(
    journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    do(journal, task("train", 1))
    folder = str(tmp_path)
    assert run_main("ledger", folder, "--set", "birds=8", "--unit", "site", "--delta", "1e-6") == 0
    told = capsys.readouterr().out
    assert "birds: budget epsilon 8 for each site; spent epsilon" in told
    assert "the coordinator" in told
    assert run_main("ledger", folder, "--json") == 0
    [account] = json.loads(capsys.readouterr().out)["datasets"]
    assert (account["budget"]["epsilon"], account["delta"]) == (8, 1e-6)
    assert account == json.loads(encode(journal.ledger.accounts()[0]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "bords=8"), "did you mean 'birds'"),
        (("--set", "birds=much"), "such as --set penguins=8"),
        (("--set", "birds=-1"), "such as --set penguins=8"),
        (("--set", "birds=8", "--delta", "2"), "such as --set penguins=8"),
    ],
)
def test_a_budget_that_is_none_is_refused(
    journal: Journal, tmp_path: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = journal.ledger.budget("birds")
    assert run_main("ledger", str(tmp_path), *words) == SpecError.exit_code
    assert said in capsys.readouterr().err
    assert journal.ledger.budget("birds") == before
