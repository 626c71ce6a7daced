"""A control plane small enough to read, for tests of the site: it speaks protocol.py over real mutual TLS.

It is told what to assign, keeps blobs in a spool, counts answers by key, and can be made to misbehave: cut a transfer
after so many bytes, send wrong bytes, refuse, be away.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio

from archipel.data.bundle import pack_bundle
from archipel.data.stores.spool import Spool
from archipel.security import Authority, expiry_of, load_or_make_key, signing_request, site_of
from archipel.site.agent.agent import Agent
from archipel.site.agent.folder import Identity, SiteFolder
from archipel.site.journal import Journal
from archipel.site.link import protocol
from archipel.site.sandbox import Guard, Sandbox, Walls, survey
from archipel.site.worker.process import Post
from archipel.spec import (
    ArchipelError,
    Blob,
    LinkError,
    Refusal,
    RoundTask,
    StateError,
    TrustError,
    Update,
)
from archipel.spec.inventory import SiteInventory
from archipel.spec.job import JobSpec, job_from
from archipel.spec.wire import (
    CHUNK_BYTES,
    Assign,
    Beat,
    Certificate,
    ControlMessage,
    Hello,
    Note,
    Offer,
    Offset,
    Receipt,
    SiteMessage,
    Want,
    Welcome,
)

SITE = "torgersen"
PATIENCE_SECONDS = 200
"""Longest wait for something that must happen; a test that fails takes this long, one that passes does not."""
TASK = '''
import os
import numpy as np
from archipel.tasks.numpy import NumpyTask
from archipel.tasks.port import Split
from archipel.tasks.numpy.task import rows_of


class Birds(NumpyTask):
    classes = ("a", "b")
    features = ("x", "y")
    label = "kind"

    def read(self, site, statistics):
        print("reading, which goes to the log and not to the agent")
        samples = self.samples(site)
        held_out = site.row_ids % 4 == 0
        return Split(train=rows_of(samples, ~held_out), test=rows_of(samples, held_out))


class Broken(Birds):
    def read(self, site, statistics):
        return float("secret-row-value")


class Deadly(Birds):
    """Kills its process whenever it reads."""

    def read(self, site, statistics):
        os.kill(os.getpid(), 9)
'''


def post_of(folder: Path, data: Mapping[str, Path], sandbox: Sandbox | None = None, walls: Walls | None = None) -> Post:
    """What a worker of the site in `folder` gets, with the walls of this machine unless others are given."""
    guard = Guard(sandbox or Sandbox(), walls or survey())
    return Post(site=SITE, folder=folder, spool=Spool(folder / "spool"), guard=guard, data=dict(data))


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def make_job(**changes: Any) -> JobSpec:
    document: dict[str, Any] = {
        "name": "birds",
        "task": {"code": "task.py:Birds"},
        "data": {
            "dataset": "birds",
            "contract": {
                "columns": {"x": {"kind": "number"}, "y": {"kind": "number"}, "kind": {"kind": "category"}},
                "label": "kind",
            },
        },
        "federation": {"rounds": 3, "seed": 7, "local": {"epochs": 2, "batch_size": 8, "learning_rate": 0.5}},
        "evaluation": {"personalise_epochs": 1},
        "deployment": {"serve": "personalised"},
    }
    for key, value in changes.items():
        document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
    return job_from(document)


def write_birds(folder: Path, rows: int = 40) -> Path:
    """Two well separated kinds of birds; row i is made from i alone."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["x,y,kind"]
    for index in range(rows):
        side = index % 2
        lines.append(f"{side * 3 + (index % 7) / 10},{side * -2 + (index % 5) / 10},{'ab'[side]}")
    path = folder / "birds.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def put_bundle(spool: Spool, folder: Path, source: str = TASK) -> Blob:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.py").write_text(source)
    return spool.put(pack_bundle(folder, ("*.py",)))


class FakeControl:
    """See the module. `assign` and `answered` are the driver's two verbs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = Spool(folder / "spool")
        self.authority = Authority.open(folder, utc_now())
        self.key = load_or_make_key(folder / "control.key")
        self.address = ""
        self.port = 0
        self.certificate_lifetime = dt.timedelta(hours=24)
        self.later = dt.timedelta()
        """How far its clock is ahead: with it, a certificate expires on an open channel."""
        self.hellos: list[Hello] = []
        self.beats: list[Beat] = []
        self.notes: list[Note] = []
        self.inventories: list[SiteInventory] = []
        self.answers: dict[tuple[str, int], Update | Refusal] = {}
        self.submissions = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.offers = 0
        self.renewals = 0
        self.pending: dict[tuple[str, int], RoundTask] = {}
        self.outboxes: list[asyncio.Queue[ControlMessage | None]] = []
        self.always: list[ControlMessage] = []
        """Said to every site that dials in, after Welcome."""
        self.changed = asyncio.Condition()
        self.cut_put_after: int | None = None
        self.cut_get_after: int | None = None
        self.at_offer: Callable[[Offer], None] = lambda offer: None
        self.at_put: Callable[[Blob], Awaitable[None]] | None = None
        """Awaited once, when the first message of an upload has come and before anything of it is taken."""
        self.corrupt_gets = 0
        self.at_submit: Callable[[], Awaitable[None]] | None = None
        """Awaited when an answer comes, before it is looked at."""
        self.at_renew: Callable[[], Awaitable[object]] | None = None
        """Awaited before a certificate is renewed."""
        self.refuse_submit: Callable[[Update | Refusal], ArchipelError | None] = lambda answer: None
        self.receipt_status = "accepted"
        self._server: Any = None

    # ---- life -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        pem = self.authority.certify_control(self.key, ["127.0.0.1", "localhost"], utc_now())
        from cryptography.hazmat.primitives import serialization

        key_pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        credentials = grpc.ssl_server_credentials(
            [(key_pem, pem.encode())], self.authority.pem.encode(), require_client_auth=True
        )
        self._server = grpc.aio.server(options=protocol.SERVER_OPTIONS)
        self._server.add_generic_rpc_handlers((protocol.handlers(self),))
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        self.address = f"127.0.0.1:{self.port}"
        await self._server.start()

    async def stop(self) -> None:
        for outbox in self.outboxes:
            outbox.put_nowait(None)
        await self._server.stop(grace=None)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # ---- the driver's side ----------------------------------------------------------------------------------

    def enrol(self, folder: Path, datasets: Mapping[str, Path], site: str = SITE, **validity: Any) -> SiteFolder:
        """Make `folder` a joined site, without the REST port."""
        place = SiteFolder(folder)
        request = signing_request(load_or_make_key(place.key), site)
        certificate = self.certify(site, request, **validity)
        place.become(Identity(site=site, control="https://127.0.0.1:1", certificate=certificate))
        journal = Journal(place.journal)
        journal.register(datasets)
        journal.close()
        return place

    def certify(
        self, site: str, request: str, now: dt.datetime | None = None, lifetime: dt.timedelta | None = None
    ) -> Certificate:
        pem = self.authority.certify_site(site, request, now or utc_now(), lifetime or self.certificate_lifetime)
        return Certificate(certificate_pem=pem, ca_pem=self.authority.pem, sites_address=self.address)

    def assign(self, task: RoundTask) -> None:
        self.pending[task.run, task.round] = task
        self.say(Assign(task=task))

    def say(self, message: ControlMessage) -> None:
        for outbox in self.outboxes:
            outbox.put_nowait(message)

    def hang_up(self) -> None:
        """End the streams; sites dial again."""
        for outbox in self.outboxes:
            outbox.put_nowait(None)

    async def answered(self, task: RoundTask) -> Update | Refusal:
        key = (task.run, task.round)
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: key in self.answers), PATIENCE_SECONDS)
        return self.answers[key]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(condition), PATIENCE_SECONDS)

    async def _stir(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    # ---- the wire contract ----------------------------------------------------------------------------------

    async def attend(
        self, messages: AsyncIterator[SiteMessage], certificate_pem: bytes
    ) -> AsyncGenerator[ControlMessage, None]:
        hello = await anext(messages)
        assert isinstance(hello, Hello)
        assert hello.site == site_of(certificate_pem)
        self.hellos.append(hello)
        self.beats.clear()
        outbox: asyncio.Queue[ControlMessage | None] = asyncio.Queue()
        self.outboxes.append(outbox)
        listening = asyncio.create_task(self._listen(messages))
        await self._stir()
        try:
            yield Welcome(control="test")
            for task in list(self.pending.values()):
                yield Assign(task=task)
            for message in self.always:
                yield message
            while (message := await outbox.get()) is not None:
                yield message
        finally:
            self.outboxes.remove(outbox)
            listening.cancel()

    async def _listen(self, messages: AsyncIterator[SiteMessage]) -> None:
        async for message in messages:
            if isinstance(message, Beat):
                self.beats.append(message)
            elif isinstance(message, Note):
                self.notes.append(message)
            elif isinstance(message, SiteInventory):
                self.inventories.append(message)
            await self._stir()

    def _require_valid(self, certificate_pem: bytes) -> None:
        if utc_now() + self.later > expiry_of(certificate_pem.decode())[1]:
            raise TrustError("the certificate has expired")

    async def submit(self, answer: Update | Refusal, certificate_pem: bytes) -> Receipt:
        self._require_valid(certificate_pem)
        self.submissions += 1
        if self.at_submit is not None:
            await self.at_submit()
        if (error := self.refuse_submit(answer)) is not None:
            raise error
        for part in answer.parts.values() if isinstance(answer, Update) else ():
            if part.shared:
                self.spool.require(part.blob.digest)
        key = (answer.run, answer.round)
        known = key in self.answers
        self.answers.setdefault(key, answer)
        self.pending.pop(key, None)
        await self._stir()
        return Receipt(status="duplicate" if known else self.receipt_status)

    async def offer(self, offer: Offer, certificate_pem: bytes) -> Offset:
        self._require_valid(certificate_pem)
        self.offers += 1
        self.at_offer(offer)
        return Offset(have_bytes=self.spool.have(offer.blob, site_of(certificate_pem)))

    async def put(self, start: protocol.PutStart, chunks: AsyncIterator[bytes], certificate_pem: bytes) -> Offset:
        self._require_valid(certificate_pem)
        blob, sender = start.offer.blob, site_of(certificate_pem)
        if self.at_put is not None:
            at_put, self.at_put = self.at_put, None
            await at_put(blob)
        if self.spool.has(blob.digest):
            return Offset(have_bytes=blob.size_bytes)
        with self.spool.receive(blob, sender, restart=start.offset == 0) as incoming:
            if incoming.size != start.offset:
                raise StateError(f"{incoming.size} bytes are here, not {start.offset}")
            async for chunk in chunks:
                self.received_bytes += len(chunk)
                incoming.write(chunk)
                if self.cut_put_after is not None and incoming.size >= self.cut_put_after:
                    self.cut_put_after = None
                    raise LinkError("cut by the test")
        return Offset(have_bytes=self.spool.have(blob, sender))

    async def get(self, want: Want, certificate_pem: bytes) -> AsyncGenerator[bytes, None]:
        self._require_valid(certificate_pem)
        position = want.offset
        for piece in self.spool.read(want.digest, want.offset, CHUNK_BYTES):
            data = piece
            if self.corrupt_gets and position == 0:
                self.corrupt_gets -= 1
                data = bytes([piece[0] ^ 1]) + piece[1:]
            self.sent_bytes += len(data)
            yield data
            position += len(data)
            if self.cut_get_after is not None and position >= self.cut_get_after:
                self.cut_get_after = None
                raise LinkError("cut by the test")

    async def renew(self, renewal: protocol.Renewal, certificate_pem: bytes) -> Certificate:
        self._require_valid(certificate_pem)
        if self.at_renew is not None:
            await self.at_renew()
        self.renewals += 1
        await self._stir()
        return self.certify(site_of(certificate_pem), renewal.csr_pem)


@contextlib.asynccontextmanager
async def living(place: SiteFolder, **how: Any) -> AsyncIterator[Agent]:
    """An agent in this process; its workers have their own."""
    stop = asyncio.Event()
    agent = Agent(place, chance=lambda: 0.0, **how)
    life = asyncio.create_task(agent.run(stop))
    try:
        yield agent
    finally:
        stop.set()
        await life


class AgentProcess:
    """A real agent in a real process, with its log in a file."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.log = folder / "agent.log"
        self._environment = environment
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "archipel.site",
                "--folder",
                str(self.folder),
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
            )

    async def wait(self) -> int:
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), PATIENCE_SECONDS)

    async def end(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.wait()
