"""The people's door to bundles, plans and runs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from litestar import get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from archipel.control.api.guard import needs
from archipel.control.api.office import AnyRequest, actor_of, office_of
from archipel.spec import Blob, Plan
from archipel.spec.views import PlanRequest, RunProgress, RunReport, RunRequest, RunsPage, RunView

POLL_SECONDS = 25.0
"""A question for news is answered after this long even if there is none."""


@post("/v1/plans", opt=needs("runs.submit"), sync_to_thread=True, status_code=200, tags=["runs"])
def plan(request: AnyRequest, data: JSONBody[PlanRequest]) -> Plan:
    """Say what a job would take; nothing is started."""
    return office_of(request).planning.plan(data.job)


@post("/v1/runs", opt=needs("runs.submit"), sync_to_thread=True, tags=["runs"])
def start(request: AnyRequest, data: JSONBody[RunRequest]) -> RunView:
    """Start a run of a job whose bundle was uploaded; asked again with the same `id`, return the run there is."""
    office = office_of(request)
    run = data.id or data.job.name_run(office.random(4))
    office.board.submit(data.job, data.bundle, run, actor_of(request))
    office.runs.begin(run)
    return office.standing.show(run)


@get("/v1/runs", opt=needs("runs.read"), sync_to_thread=True, tags=["runs"])
def runs(request: AnyRequest) -> RunsPage:
    """Return all runs, newest first."""
    return office_of(request).standing.list()


@get("/v1/runs/{run:str}", opt=needs("runs.read"), sync_to_thread=True, tags=["runs"])
def show(request: AnyRequest, run: FromPath[str]) -> RunView:
    """Return one run."""
    return office_of(request).standing.show(run)


@get("/v1/runs/{run:str}/progress", opt=needs("runs.read"), tags=["runs"])
async def progress(
    request: AnyRequest,
    run: FromPath[str],
    after: Annotated[int | None, QueryParameter(description="`seq` of the last answer: wait for news")] = None,
) -> RunProgress:
    """Say where a run stands; with `after`, as soon as that has changed."""
    office = office_of(request)
    loop = asyncio.get_running_loop()
    news = asyncio.Event()

    def told() -> None:
        loop.call_soon_threadsafe(news.set)

    with office.notices.watch(run, told):
        if after is not None and office.standing.seq(run) == after:
            await asyncio.to_thread(office.standing.show, run)
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await news.wait()
            except TimeoutError:
                news.clear()
    return await asyncio.to_thread(office.standing.progress, run)


@get("/v1/runs/{run:str}/report", opt=needs("reports.read"), sync_to_thread=True, tags=["runs"])
def report(request: AnyRequest, run: FromPath[str]) -> RunReport:
    """Return what came out of a run, what it cost, and what each site disclosed."""
    return office_of(request).reports.report(run)


@post("/v1/runs/{run:str}/stop", opt=needs("runs.steer"), sync_to_thread=True, status_code=200, tags=["runs"])
def stop(request: AnyRequest, run: FromPath[str]) -> RunView:
    """Stop a run; `resume` goes on from there."""
    office = office_of(request)
    office.runs.stop(run, actor_of(request))
    return office.standing.show(run)


@post("/v1/runs/{run:str}/resume", opt=needs("runs.steer"), sync_to_thread=True, status_code=200, tags=["runs"])
def resume(request: AnyRequest, run: FromPath[str]) -> RunView:
    """Let a stopped or failed run go on."""
    office = office_of(request)
    office.runs.resume(run, actor_of(request))
    return office.standing.show(run)


def work_handlers(max_bundle_bytes: int) -> list[Any]:
    """Return the handlers of this page; the upload of bundles takes bodies of at most `max_bundle_bytes`."""

    @post("/v1/bundles", opt=needs("runs.submit"), request_max_body_size=max_bundle_bytes, tags=["runs"])
    async def upload(request: AnyRequest) -> Blob:
        """Upload a bundle (zip, as `archipel` packs it); the same bytes twice are one."""
        data = await request.body()
        return await asyncio.to_thread(office_of(request).bundles.add, data)

    return [upload, plan, start, runs, show, progress, report, stop, resume]
