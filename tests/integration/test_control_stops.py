"""Stopping a run while control itself works on it, and letting it go on."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from archipel.control.services.rounds import workshop
from unit.control.control_house import at_home, living
from unit.control.control_plane import make_bundle, make_job

NAMES = ("coral", "lagoon", "reef")


async def test_a_run_stopped_and_resumed_during_a_fold_folds_once_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = workshop.carry_out
    folding, go_on = threading.Event(), threading.Event()
    folded: list[int] = []

    def held(instruction: Any, *how: Any) -> Any:
        folded.append(instruction.round)
        folding.set()
        assert go_on.wait(60)
        return real(instruction, *how)

    monkeypatch.setattr(workshop, "carry_out", held)
    async with at_home(tmp_path) as home:
        sites = [home.site(name) for name in NAMES]
        run = home.start(
            make_job(federation={"rounds": 1}, deployment={"serve": "none"}), make_bundle(tmp_path / "job")
        )
        async with living(*sites):
            assert await asyncio.to_thread(folding.wait, 60)
            await asyncio.to_thread(home.house.runs.stop, run, "operator/t")
            await asyncio.to_thread(home.house.runs.resume, run, "operator/t")
            go_on.set()
            await home.until(run, "finished", "failed")
        assert home.house.standing.show(run).state == "finished"
    assert folded == sorted(set(folded)), "each round is folded once"
