"""The site's journal: what survives, what is forgotten, and which blobs are still needed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.site.journal import Journal, Serving
from archipel.spec import (
    Blob,
    Lineage,
    ModelVersion,
    Part,
    Refusal,
    RoundTask,
    StateError,
    StorageFullError,
    Update,
    digest_of,
)
from archipel.spec.wire import Serve
from unit.site.site_fakes import SITE, make_job


def blob(name: str) -> Blob:
    return Blob(digest=digest_of(name.encode()), size_bytes=len(name))


def task(round_: int, run: str = "run-1", model: str | None = None) -> RoundTask:
    return RoundTask(
        run=run,
        round=round_,
        site=SITE,
        kind="train",
        job=make_job(),
        bundle=blob("bundle"),
        model=blob(model or f"model-{round_}"),
    )


def update(of: RoundTask, *, shared: bool = True) -> Update:
    part = Part(blob=blob(f"delta-{of.run}-{of.round}"), shared=shared)
    return Update(run=of.run, round=of.round, site=SITE, kind="train", parts={"delta": part})


def digests(*names: str) -> set[str]:
    return {blob(name).digest for name in names}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db")


def test_everything_is_there_after_opening_again(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal.db")
    first.remember("port", "1")
    first.register({"birds": Path("/data/birds")})
    first.assign(task(3))
    first.finish(task(3), update(task(3)), {"control": blob("c3")})
    again = Journal(tmp_path / "journal.db")  # the first one was never closed
    assert again.setting("port") == "1"
    assert again.datasets() == {"birds": Path("/data/birds")}
    [work] = again.in_hand()
    assert (work.task, work.answer) == (task(3), update(task(3)))
    assert again.recall("run-1", 4) == {"control": blob("c3")}


def test_a_task_that_is_assigned_twice_keeps_its_answer(journal: Journal) -> None:
    journal.assign(task(1))
    journal.finish(task(1), update(task(1)), {})
    assert journal.assign(task(1)).answer == update(task(1))


def test_state_is_that_of_rounds_before(journal: Journal) -> None:
    for round_ in (1, 2, 3):
        journal.assign(task(round_))
        journal.finish(task(round_), update(task(round_)), {"control": blob(f"c{round_}")})
    assert journal.recall("run-1", 1) == {}
    assert journal.recall("run-1", 2) == {"control": blob("c1")}
    assert journal.recall("run-1", 9) == {"control": blob("c3")}
    assert journal.recall("other", 9) == {}


def test_the_state_of_an_answer_that_was_not_counted_is_dropped(journal: Journal) -> None:
    for round_ in (1, 2):
        journal.assign(task(round_))
        journal.finish(task(round_), update(task(round_)), {"control": blob(f"c{round_}")})
    journal.clear(task(1), counted=True)
    assert journal.clear(task(2), counted=False) >= digests("c2")
    assert journal.recall("run-1", 9) == {"control": blob("c1")}


def test_two_states_of_a_name_are_kept(journal: Journal) -> None:
    for round_ in range(5):
        journal.assign(task(round_))
        journal.finish(task(round_), update(task(round_)), {"control": blob(f"c{round_}")})
        journal.clear(task(round_), counted=True)
    assert journal.recall("run-1", 5) == {"control": blob("c4")}
    assert journal.recall("run-1", 4) == {"control": blob("c3")}
    assert journal.recall("run-1", 3) == {}


def test_a_cleared_task_frees_its_update_and_leaves_its_inputs_for_the_next(journal: Journal) -> None:
    journal.assign(task(1))
    journal.finish(task(1), update(task(1)), {})
    assert journal.clear(task(1), counted=True) == digests("delta-run-1-1")
    journal.assign(task(2))
    journal.finish(task(2), update(task(2)), {})
    assert journal.clear(task(2), counted=True) == digests("delta-run-1-2", "model-1")
    assert journal.live() == digests("bundle", "model-2")


def test_a_part_that_never_leaves_is_kept_until_its_run_is_forgotten(journal: Journal) -> None:
    journal.assign(task(1))
    journal.finish(task(1), update(task(1), shared=False), {})
    assert digests("delta-run-1-1") & journal.clear(task(1), counted=True) == set()
    assert digests("delta-run-1-1") <= journal.forget("run-1")
    assert journal.live() == set()


def test_a_run_that_is_over_leaves_one_state_and_is_remembered_no_more(journal: Journal) -> None:
    journal.assign(task(1))
    journal.finish(task(1), update(task(1)), {"c": blob("c"), "own": blob("own")})
    assert journal.remembered("own") == ("run-1",)
    journal.clear(task(1), counted=True)
    assert journal.remembered("own") == ("run-1",)
    assert digests("c") <= journal.forget("run-1", "own")
    assert journal.recall("run-1", 9) == {"own": blob("own")}
    assert journal.live() == digests("own")
    assert journal.remembered("own") == ()
    assert journal.remembered() == ("run-1",)


def test_what_another_run_needs_is_not_freed(journal: Journal) -> None:
    journal.assign(task(1))
    journal.assign(task(1, run="run-2"))
    assert digests("bundle", "model-1") & journal.forget("run-1") == set()


def test_what_is_served_outlives_its_run(journal: Journal) -> None:
    lineage = Lineage(job=blob("j").digest, bundle=blob("b").digest, datasets={}, participation=())
    model = ModelVersion(name="birds", version=1, run="run-1", weights=blob("w"), onnx=blob("onnx"), lineage=lineage)
    serving = Serving(serve=Serve(model=model, copy="personalised"), copy="personalised", onnx=blob("own"))
    journal.serve(serving)
    journal.forget("run-1")
    assert journal.served() == (serving,)
    assert journal.live() == digests("own")


def test_a_refusal_is_an_answer(journal: Journal) -> None:
    refusal = Refusal(run="run-1", round=1, site=SITE, error="DataError", message="no")
    journal.assign(task(1))
    journal.finish(task(1), refusal, {})
    [work] = journal.in_hand()
    assert work.answer == refusal


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "journal.db").close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StateError, match="schema version 99"):
        Journal(tmp_path / "journal.db")


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database, though long enough to be taken for one" * 20)
    with pytest.raises(StateError, match="damaged"):
        Journal(tmp_path / "journal.db")


def test_a_full_disk_is_named_and_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.assign(task(1))
    journal._db.execute("PRAGMA max_page_count = 1")  # SQLite's own word for a full disk
    with pytest.raises(StorageFullError, match="no space left"):
        for index in range(2000):
            journal.remember(f"name-{index}", "x" * 4000)
    assert [work.task for work in journal.in_hand()] == [task(1)]


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["assign", "finish", "clear", "stale", "forget"]), st.integers(0, 3), st.integers(0, 1)),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(actions=ACTIONS)
def test_a_blob_is_freed_only_when_nothing_in_the_journal_names_it(
    actions: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.db")
    held: set[str] = set()
    for what, round_, run in actions:
        of = task(round_, run=f"run-{run}")
        match what:
            case "assign":
                journal.assign(of)
                held |= set(of.blobs())
            case "finish" if journal.work(of.run, of.round):
                journal.finish(of, update(of, shared=bool(round_ % 2)), {"c": blob(f"c-{of.run}-{of.round}")})
                held |= digests(f"delta-{of.run}-{of.round}", f"c-{of.run}-{of.round}")
            case "clear" | "stale" if journal.work(of.run, of.round):
                held -= journal.clear(of, counted=what == "clear")
            case "forget":
                held -= journal.forget(of.run)
        assert journal.live() <= held, "something that is still named was freed"
    for run in ("run-0", "run-1"):
        held -= journal.forget(run)
    assert journal.live() == set()
    assert held == set(), "something was never freed"
    journal.close()


def test_work_is_a_frozen_value(journal: Journal) -> None:
    work = journal.assign(task(1))
    with pytest.raises(AttributeError):
        work.answer = None  # type: ignore[misc]
    assert msgspec.structs.replace(work) == work
