"""A disk that is full for a while: the run stands still, says why, loses nothing, and goes on by itself."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from archipel.control.services.rounds import workshop
from archipel.data.stores import spool
from archipel.spec import StorageFullError
from unit.control.control_house import at_home, living
from unit.control.control_plane import make_bundle, make_job

NAMES = ("coral", "lagoon", "reef")


async def test_a_disk_full_while_updates_come_in_only_delays_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.fsync, iter(range(9))

    def full_for_a_while(descriptor: int) -> None:
        if next(left, None) is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    async with at_home(tmp_path) as home:
        sites = [home.site(name) for name in NAMES]
        run = home.start(make_job(), make_bundle(tmp_path / "job"))
        monkeypatch.setattr(spool.os, "fsync", full_for_a_while)
        async with living(*sites):
            await home.until(run, "finished")
    assert next(left, None) is None
    assert any(isinstance(error, StorageFullError) for site in sites for error in site.errors)


async def test_a_disk_full_while_folding_pauses_the_run_and_it_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = workshop.carry_out
    paused = asyncio.Event()
    loop = asyncio.get_running_loop()

    def full_once(*how: object) -> object:
        if not paused.is_set():
            loop.call_soon_threadsafe(paused.set)
            raise StorageFullError("no space left in the spool", hint="free some space; the work goes on by itself")
        return real(*how)  # type: ignore[arg-type]

    monkeypatch.setattr(workshop, "carry_out", full_once)
    async with at_home(tmp_path) as home:
        sites = [home.site(name) for name in NAMES]
        run = home.start(make_job(), make_bundle(tmp_path / "job"))
        async with living(*sites):
            await home.until(run, "paused", "finished")
            view = home.house.standing.show(run)
            assert (view.state, view.message) == ("paused", "no space left in the spool")
            assert "by itself" in view.hint
            await home.until(run, "finished")


async def test_a_fault_nobody_foresaw_fails_the_run_by_name_and_it_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError("a bug")

    async with at_home(tmp_path) as home:
        sites = [home.site(name) for name in NAMES]
        run = home.start(make_job(), make_bundle(tmp_path / "job"))
        with monkeypatch.context() as patch:
            patch.setattr(workshop, "carry_out", broken)
            async with living(*sites):
                await home.until(run, "failed")
        assert home.house.standing.show(run).message == "ZeroDivisionError: a bug"
        async with living(*sites):
            home.house.runs.resume(run, "operator/t")
            await home.until(run, "finished")
