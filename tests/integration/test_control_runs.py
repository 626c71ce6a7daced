"""Whole runs through a real control plane (its own process, TLS, disk) with scripted sites."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from archipel.spec import decode
from archipel.spec.views import ModelsPage
from unit.control.control_plane import Plane, make_bundle, make_job
from unit.control.control_sites import ScriptedSite, rows_of

NAMES = ("coral", "lagoon", "reef")


@asynccontextmanager
async def attended(plane: Plane, folder: Path, names: tuple[str, ...] = NAMES) -> AsyncIterator[list[ScriptedSite]]:
    sites = [await plane.site(name, folder) for name in names]
    tasks = [asyncio.create_task(site.run()) for site in sites]
    try:
        yield sites
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_run_ends_with_a_model_a_report_and_serving_sites(tmp_path: Path) -> None:
    async with Plane(tmp_path / "state") as plane, attended(plane, tmp_path) as sites:
        job = make_job(evaluation={"alone": True, "cross": True, "personalise_epochs": 1})
        run = await plane.start(job, make_bundle(tmp_path / "job"))
        done = await plane.until(run, "finished")
        assert done.sites == NAMES
        report = await plane.report(run)
        rows = sum(rows_of(name) for name in NAMES)
        right = sum(int(rows_of(name) * 0.9) for name in NAMES)
        assert report.overall["federated"].everyone is not None
        assert report.overall["federated"].everyone["accuracy"] == pytest.approx(right / rows)
        assert report.overall["alone"].own is not None
        assert report.overall["personalised"].own["accuracy"] == 1.0
        assert report.rounds == 3
        models = decode((await plane.insist("GET", "/v1/models")).content, ModelsPage).models
        assert [(model.name, model.version, model.run) for model in models] == [("birds", 1, run)]
        assert models[0].weights.digest == report.model_digest
        for site in sites:
            await site.until(lambda site=site: "birds" in site.serving)
        weights = await plane.insist("GET", "/v1/models/birds/1/weights")
        assert len(weights.content) == models[0].weights.size_bytes
        assert await plane.end() == 0
