"""A control plane inside the test's own process, with both doors open: quick to start, open to look into."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from archipel.control.api.house import House
from archipel.control.app import serve
from archipel.control.settings import Settings
from archipel.security import read_token
from archipel.site.link.dial import Credentials
from archipel.spec import JobSpec, decode
from archipel.spec.views import Operator
from archipel.spec.wire import Enrolment
from unit.control.control_sites import ScriptedSite, new_credentials


class Home:
    """A served house and its operator."""

    def __init__(self, house: House, operator: Operator, folder: Path) -> None:
        self.house = house
        self.operator = operator
        self.folder = folder
        self.address = f"127.0.0.1:{house.sites_port}"

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """Return an HTTPS client with the operator's token (or another one)."""
        headers = {"Authorization": f"Bearer {token or self.operator.token}"}
        verify = ssl.create_default_context(cadata=self.operator.ca_pem)
        return httpx.AsyncClient(base_url=self.operator.url, verify=verify, headers=headers, trust_env=False)

    def credentials(self, name: str) -> Credentials:
        """Enrol a site by its token."""
        office = self.house.office()
        token = read_token(self.house.enrolments.invite(name, office.url(), "operator/t", office.random).token)

        def enrol(request: str) -> tuple[str, str]:
            enrolment = Enrolment(site=name, secret=token.secret, csr_pem=request)
            got = self.house.enrolments.enrol(enrolment, self.address)
            return got.certificate_pem, got.ca_pem

        return new_credentials(name, enrol, self.folder)

    def site(self, name: str, **how: Any) -> ScriptedSite:
        """Enrol a scripted site."""
        return ScriptedSite(name, self.address, self.credentials(name), **how)

    def start(self, job: JobSpec, bundle: bytes) -> str:
        """Submit and begin a run."""
        blob = self.house.bundles.add(bundle)
        run = job.name_run(self.house.office().random(4))
        self.house.board.submit(job, blob.digest, run, "operator/t")
        self.house.runs.begin(run)
        return run

    async def until(self, run: str, *states: str) -> None:
        """Wait until a run is in one of these states."""
        news = asyncio.Event()
        loop = asyncio.get_running_loop()
        with self.house.notices.watch(run, lambda: loop.call_soon_threadsafe(news.set)):
            while self.house.standing.show(run).state not in states:
                async with asyncio.timeout(60):
                    await news.wait()
                news.clear()


@asynccontextmanager
async def at_home(folder: Path, **settings: Any) -> AsyncIterator[Home]:
    """Serve a control plane in `folder` until the block ends."""
    chosen = Settings(state=folder / "state", http_port=0, sites_port=0, **settings)
    stop = asyncio.Event()
    ready: asyncio.Future[House] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(chosen, stop, ready.set_result))
    try:
        await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        operator = decode((chosen.state / "operator.json").read_bytes(), Operator)
        yield Home(await ready, operator, folder)
    finally:
        stop.set()
        await serving


@asynccontextmanager
async def living(*sites: ScriptedSite) -> AsyncIterator[None]:
    """Let scripted sites attend until the block ends."""
    tasks = [asyncio.create_task(site.run()) for site in sites]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
