"""A control plane as its own process, for tests that speak to it as users do, and kill it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec

from archipel.data.bundle import pack_bundle
from archipel.security import read_token
from archipel.spec import JobSpec, decode, encode
from archipel.spec.job import job_from
from archipel.spec.views import InvitationView, Operator, RunProgress, RunReport, RunRequest, RunView
from archipel.spec.wire import Certificate, Enrolment
from servers import free_ports
from unit.control.control_sites import ScriptedSite, new_credentials

START_SECONDS = 180.0


class Plane:
    """`python -m archipel.control` on ports of its own; started again (as a supervisor would) when it is killed."""

    def __init__(self, state: Path, environment: dict[str, str] | None = None) -> None:
        self.state = state
        self.environment = environment or {}
        self.http_port, self.sites_port = free_ports(2)
        self.process: asyncio.subprocess.Process | None = None
        self.deaths = 0
        self.exit_code: int | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.state.mkdir(parents=True, exist_ok=True)
        self._keeping = asyncio.create_task(self._keep())
        await self.until_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def _keep(self) -> None:
        while True:
            with (self.state / "out.log").open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "archipel.control", "--state", str(self.state),
                    "--http-port", str(self.http_port), "--sites-port", str(self.sites_port),
                    stdout=log, stderr=log, env={**os.environ, **self.environment},
                )  # fmt: skip
            self.exit_code = await self.process.wait()
            if self.exit_code != -signal.SIGKILL:
                return
            self.deaths += 1

    async def until_up(self) -> None:
        """Wait until the people's door answers."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                assert self._keeping is None or not self._keeping.done(), self.log()
                with contextlib.suppress(httpx.HTTPError, OSError, FileNotFoundError):
                    if (await self.call("GET", "/healthz", public=True)).status_code == 200 and self._operator():
                        return
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """Kill it; it comes back by itself."""
        assert self.process is not None
        before = self.deaths
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        while self.deaths == before:  # noqa: ASYNC110 - counted by the task that starts it again
            await asyncio.sleep(0.01)

    async def end(self) -> int:
        """End it as an operator would; return the exit code."""
        assert self._keeping is not None
        if not self._keeping.done():
            assert self.process is not None
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
        await self._keeping
        assert self.exit_code is not None
        return self.exit_code

    def log(self) -> str:
        """Return what it printed."""
        return (self.state / "out.log").read_text()

    def _operator(self) -> Operator | None:
        path = self.state / "operator.json"
        return decode(path.read_bytes(), Operator) if path.exists() else None

    async def call(self, method: str, path: str, *, public: bool = False, **how: Any) -> httpx.Response:
        """Make one request."""
        operator = self._operator()
        verify = ssl.create_default_context(cadata=operator.ca_pem) if operator else False
        headers = {} if public or operator is None else {"Authorization": f"Bearer {operator.token}"}
        headers |= how.pop("headers", {})
        url = f"https://127.0.0.1:{self.http_port}"
        async with httpx.AsyncClient(base_url=url, verify=verify, trust_env=False, timeout=60) as client:
            return await client.request(method, path, headers=headers, **how)

    async def insist(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Make a request, again and again while nobody answers."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(httpx.HTTPError, OSError):
                    return await self.call(method, path, **how)
                await asyncio.sleep(0.05)

    async def site(self, name: str, folder: Path, **how: Any) -> ScriptedSite:
        """Invite and enrol a scripted site."""
        answer = await self.insist("POST", "/v1/invitations", json={"site": name})
        token = read_token(decode(answer.content, InvitationView).token)
        requests: list[str] = []
        credentials = new_credentials(name, lambda request: requests.append(request) or ("", ""), folder)
        body = encode(Enrolment(site=name, secret=token.secret, csr_pem=requests[0]))
        answer = await self.insist("POST", "/v1/enrolments", public=True, content=body)
        assert answer.status_code == 201, answer.text
        got = decode(answer.content, Certificate)
        credentials = msgspec.structs.replace(
            credentials, certificate_pem=got.certificate_pem.encode(), ca_pem=got.ca_pem.encode()
        )
        return ScriptedSite(name, f"127.0.0.1:{self.sites_port}", credentials, **how)

    async def start(self, job: JobSpec, bundle: bytes) -> str:
        """Upload and start a job once, whoever is killed meanwhile; return the run's id."""
        answer = await self.insist("POST", "/v1/bundles", content=bundle)
        assert answer.status_code == 201, answer.text
        body = encode(RunRequest(job=job, bundle=answer.json()["digest"]))
        try:
            answer = await self.call("POST", "/v1/runs", content=body)
        except httpx.HTTPError:
            found = (await self.insist("GET", "/v1/runs")).json()["runs"]
            if found:
                return str(found[0]["id"])
            answer = await self.insist("POST", "/v1/runs", content=body)
        assert answer.status_code == 201, answer.text
        return decode(answer.content, RunView).id

    async def until(self, run: str, *states: str) -> RunView:
        """Wait until a run is in one of these states."""
        after: dict[str, int] = {}
        while True:
            answer = await self.insist("GET", f"/v1/runs/{run}/progress", params=after)
            if answer.status_code == 503:
                continue
            assert answer.status_code == 200, answer.text
            progress = decode(answer.content, RunProgress)
            if progress.run.state in states:
                return progress.run
            assert progress.run.state != "failed", progress.run
            after = {"after": progress.seq}

    async def report(self, run: str) -> RunReport:
        """Return a run's report."""
        answer = await self.insist("GET", f"/v1/runs/{run}/report")
        assert answer.status_code == 200, answer.text
        return decode(answer.content, RunReport)


def make_job(**tables: Any) -> JobSpec:
    """Return a small job over scripted sites."""
    document: dict[str, Any] = {
        "name": "birds",
        "task": {"code": "task.py:Birds"},
        "data": {"dataset": "birds"},
        "federation": {"rounds": 3, "min_sites": 3},
        "deployment": {"serve": "global"},
    }
    for table, values in tables.items():
        document[table] = {**document.get(table, {}), **values} if isinstance(values, dict) else values
    return job_from(document)


def make_bundle(folder: Path) -> bytes:
    """Return a bundle with one file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.py").write_text("class Birds: ...\n")
    return pack_bundle(folder, ("*.py",))
