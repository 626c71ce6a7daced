"""A commit that fails once: nobody is told yes for what was not kept, and the run goes on by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archipel.control.services.rounds import driver, runs
from archipel.control.services.rounds.record import Entry
from archipel.control.store import journal
from archipel.federated.port import UpdateAccepted
from archipel.spec import LinkError, StorageFullError
from unit.control.control_house import at_home, living
from unit.control.control_plane import make_bundle, make_job

NAMES = ("coral", "lagoon", "reef")


@pytest.mark.parametrize("reads_lost", [0, 1], ids=["the rebuild succeeds", "its first read is lost too"])
async def test_the_last_update_of_a_round_that_could_not_be_kept_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads_lost: int
) -> None:
    monkeypatch.setattr(runs, "RETRY_SECONDS", 0.2)
    keep, replay = driver.keep_within, journal.replay
    answered: set[str] = set()
    lost: list[str] = []

    def full_once(connection: Any, log: Any, entry: Entry) -> None:
        events = [step.event for step in entry.steps if step.number == 0]
        answered.update(event.update.site for event in events if isinstance(event, UpdateAccepted))
        if len(answered) == len(NAMES) and not lost:
            lost.append("commit")
            raise StorageFullError("the database has no space", hint="free some space")
        keep(connection, log, entry)

    def away_once(connection: Any, run: str) -> Any:
        if lost and len(lost) <= reads_lost:
            lost.append("read")
            raise LinkError("the database cannot be reached", hint="check the server")
        return replay(connection, run)

    monkeypatch.setattr(driver, "keep_within", full_once)
    monkeypatch.setattr(journal, "replay", away_once)
    async with at_home(tmp_path) as home:
        sites = [home.site(name) for name in NAMES]
        run = home.start(
            make_job(federation={"rounds": 1}, deployment={"serve": "none"}), make_bundle(tmp_path / "job")
        )
        async with living(*sites):
            await home.until(run, "finished")
    assert lost == ["commit", "read"][: 1 + reads_lost]
    statuses = {receipt.status for site in sites for _, _, receipt in site.receipts}
    assert statuses == {"accepted"}, "no site was told that what was lost had been counted"


async def test_a_run_whose_commit_failed_says_so_until_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageFullError("the database has no space", hint="free some space")

    async with at_home(tmp_path) as home:
        sites = [home.site(name) for name in NAMES]
        run = home.start(
            make_job(federation={"rounds": 1}, deployment={"serve": "none"}), make_bundle(tmp_path / "job")
        )
        async with living(*sites):
            with monkeypatch.context() as patch:
                patch.setattr(driver, "keep_within", full)
                await home.until(run, "paused")
                assert home.house.standing.show(run).message == "the database has no space"
            await home.until(run, "finished")
