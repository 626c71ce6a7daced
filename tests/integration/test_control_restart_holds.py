"""A control plane that starts again holds what it held, without reading the history of every run there ever was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archipel.control.services.rounds.workshop import report_holder
from archipel.control.store import journal
from unit.control.control_house import at_home, living
from unit.control.control_plane import make_bundle, make_job


async def test_the_blobs_of_a_finished_runs_report_are_held_again_without_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(federation={"rounds": 2}, evaluation={"every": 1}, deployment={"serve": "none"})
    async with at_home(tmp_path) as home:
        sites = [home.site(name) for name in ("coral", "lagoon", "reef")]
        run = home.start(job, make_bundle(tmp_path / "job"))
        async with living(*sites):
            await home.until(run, "finished")
        before = home.house.holdings.held_by(report_holder(run))
    assert before

    def read_again(*_: Any) -> Any:
        raise AssertionError("a finished run's journal is not read at a start")

    monkeypatch.setattr(journal, "replay", read_again)
    async with at_home(tmp_path) as home:
        assert home.house.holdings.held_by(report_holder(run)) == before
