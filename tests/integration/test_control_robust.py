"""Sites that lie, over the wire: what a robust run makes of them, and what control writes down."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from archipel.spec import RoundTask, Update, pack, unpack
from unit.control.control_house import Home, at_home, living
from unit.control.control_plane import make_bundle, make_job
from unit.control.control_sites import ScriptedSite, answer, described_part

HONEST = ("a", "b", "c", "d", "e")
ROBUST = {"rule": "median", "tolerate": 2, "mixing": "none"}


def lying(
    value: float, site: ScriptedSite, task: RoundTask, blobs: dict[str, bytes]
) -> tuple[Update, dict[str, bytes]]:
    update, parts = answer(site, task, blobs)
    if task.kind == "train":
        delta = {"w": np.full(site.size, value, np.float32)}
        parts["delta"] = pack(delta)
        described = {"delta": described_part(delta, parts["delta"], task)}
        update = msgspec.structs.replace(update, parts=described, weight=2.0**53)
    return update, parts


def liar(home: Home, name: str, value: float) -> ScriptedSite:
    site = home.site(name)
    site.answer = lambda *asked: lying(value, *asked)
    return site


async def told(home: Home, run: str, message: str) -> None:
    """Wait until a run says so."""
    news, loop = asyncio.Event(), asyncio.get_running_loop()
    with home.house.notices.watch(run, lambda: loop.call_soon_threadsafe(news.set)):
        async with asyncio.timeout(60):
            while message not in home.house.standing.show(run).message:
                await news.wait()
                news.clear()


def model_of(home: Home) -> np.ndarray:
    weights = home.house.registry.show("birds", 1).weights
    return unpack(home.house.spool.view(weights.digest))["w"]


async def finished(folder: Path, *lies: tuple[str, float]) -> tuple[np.ndarray, list[tuple[object, ...]]]:
    """Carry a run out; return its model and the outlying updates that control wrote down."""
    async with at_home(folder) as home:
        sites = [*(home.site(name) for name in HONEST), *(liar(home, *lie) for lie in lies)]
        async with living(*sites):
            named = [site.name for site in sites]
            job = make_job(federation={"robust": ROBUST, "sites": named, "min_sites": 5, "rounds": 2})
            run = home.start(job, make_bundle(folder / "job"))
            await home.until(run, "finished")
        events = [item.event for item in home.house.log.read(run=run).events if item.event.what == "update.outlying"]
        found = [(event.level, event.site, event.detail["round"], event.detail["handled"]) for event in events]
        return model_of(home), found


async def test_a_robust_run_goes_on_without_the_lies_and_names_who_told_them(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clean, nothing = await finished(tmp_path)
    assert nothing == []
    model, found = await finished(tmp_path_factory.mktemp("lies"), ("x", float("nan")), ("y", 1e6))
    assert np.abs(model - clean).max() < 1, "two liars of seven moved the model by less than honest steps do"
    assert found == [
        ("warning", site, number, handled)
        for number in (1, 2)
        for site, handled in (("x", "left out"), ("y", "shortened"))
    ]


async def test_a_run_waits_for_as_many_sites_as_its_rule_needs(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home:
        sites = [home.site(name) for name in HONEST]
        run = home.start(make_job(federation={"robust": ROBUST, "min_sites": 1}), make_bundle(tmp_path / "job"))
        async with living(*sites[:4]):
            await told(home, run, "4 of at least 5 sites")
            assert home.house.standing.show(run).state == "waiting"
            async with living(sites[4]):
                await home.until(run, "finished")
        assert home.house.standing.show(run).sites == HONEST
