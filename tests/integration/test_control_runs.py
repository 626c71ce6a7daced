"""Whole runs through a real control plane (its own process, TLS, disk) with scripted sites."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from archipel.spec import JobSpec, Plan, StateError, decode, encode
from archipel.spec.views import ModelsPage, PlanRequest
from servers import S3, Postgres
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
            await site.until(lambda site=site: site.forgotten == [run])
        weights = await plane.insist("GET", "/v1/models/birds/1/weights")
        assert len(weights.content) == models[0].weights.size_bytes
        assert await plane.end() == 0


async def test_a_plan_knows_what_the_same_work_took_before_and_is_graded_in_the_report(tmp_path: Path) -> None:
    async with Plane(tmp_path / "state") as plane, attended(plane, tmp_path):
        bundle, job, longer = make_bundle(tmp_path / "job"), make_job(), make_job(federation={"rounds": 4})
        other = make_job(federation={"local": {"learning_rate": 0.7}})

        async def planned(of: JobSpec) -> set[tuple[float, float] | None]:
            found = decode((await plane.insist("POST", "/v1/plans", content=encode(PlanRequest(job=of)))).content, Plan)
            return {share.seconds_per_round for share in found.participants}

        first = await plane.start(job, bundle)
        await plane.until(first, "finished")
        assert await planned(longer) == {(0.01, 0.01)}, "as all sites told of their work"
        assert (0.01, 0.01) not in await planned(other), "other local training is other work"
        second = await plane.start(longer, bundle)
        await plane.until(second, "finished")
        graded = {run: {grade.what: grade for grade in (await plane.report(run)).grades} for run in (first, second)}
        assert graded[first]["a round at coral"].planned != (0.01, 0.01), "it was drawn before there was a run"
        assert graded[second]["a round at coral"].planned == (0.01, 0.01)
        assert graded[second]["a round at coral"].off == 0
        assert graded[second]["training, from sites"].came > 0


async def test_a_site_that_was_away_is_told_which_of_its_runs_it_may_forget(tmp_path: Path) -> None:
    async with Plane(tmp_path / "state") as plane:
        async with attended(plane, tmp_path):
            over = await plane.start(make_job(), make_bundle(tmp_path / "job"))
            await plane.until(over, "finished")
        waiting = await plane.start(make_job(), make_bundle(tmp_path / "job"))
        late = await plane.site("atoll", tmp_path)
        late.remembers = ("of-another-control", over, waiting)
        attending = asyncio.create_task(late.run())
        await late.until(lambda: bool(late.forgotten))
        assert late.forgotten == [over]
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
        assert await plane.end() == 0


async def test_a_second_control_plane_on_the_same_state_is_refused_by_name_and_harms_nothing(tmp_path: Path) -> None:
    async with Plane(tmp_path / "state") as plane:
        assert plane.process is not None
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "archipel.control", "--state", str(tmp_path / "state"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await second.communicate()
        assert second.returncode == StateError.exit_code
        assert f"process {plane.process.pid} on".encode() in said
        assert b"use that one, or stop it first" in said
        assert (await plane.call("GET", "/v1/sites")).status_code == 200


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with Plane(tmp_path / "one") as plane:
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "archipel.control", "--state", str(tmp_path / "two"),
            "--http-port", str(plane.http_port), "--sites-port", "0",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await second.communicate()
    assert second.returncode == StateError.exit_code
    assert f"cannot listen on 127.0.0.1:{plane.http_port}".encode() in said


@pytest.mark.postgres
@pytest.mark.s3
async def test_on_postgresql_and_s3_a_run_gives_the_same_bytes_also_when_control_is_killed_at_random(
    tmp_path: Path, postgres: Postgres, s3: S3
) -> None:
    weights = {}
    chance = random.Random(7)
    for place in ("here", "there"):
        folder = tmp_path / place
        folder.mkdir()
        far = {
            "ARCHIPEL_DATABASE": postgres.database(),
            "ARCHIPEL_ARTEFACTS": s3.bucket(),
            "ARCHIPEL_ARTEFACT_OPTIONS": json.dumps(s3.options()),
        }
        async with Plane(folder / "state", far if place == "there" else {}) as plane, attended(plane, folder):
            job = make_job(federation={"rounds": 12, "min_sites": 3, "algorithm": "fedadam"})
            run = await plane.start(job, make_bundle(folder / "job"))
            if place == "there":
                for _ in range(3):
                    await asyncio.sleep(chance.uniform(0.1, 1.5))
                    await plane.kill()
            await plane.until(run, "finished")
            weights[place] = (await plane.insist("GET", "/v1/models/birds/1/weights")).content
            report = await plane.report(run)
            assert report.rounds == 12
            assert not (folder / "state" / "control.db").exists() or place == "here"
    assert weights["here"] == weights["there"]
