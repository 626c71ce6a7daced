"""A scripted site: speaks the real protocol over real TLS, and answers by arithmetic instead of training.

What it sends depends on its name, the step and the model only, so a run over scripted sites has one right result,
whoever was killed on the way. It keeps nothing on disk and insists until control has taken each answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from archipel.security import keys
from archipel.site.link.dial import Attendance, Credentials, Link, dial
from archipel.site.link.protocol import PutStart
from archipel.spec import (
    Blob,
    DatasetManifest,
    LinkError,
    Part,
    Refusal,
    RoundTask,
    StaleError,
    StateError,
    StorageFullError,
    Update,
    digest_of,
    manifest_of,
    pack,
    unpack,
)
from archipel.spec.wire import Assign, Beat, ControlMessage, Forget, Hello, Offer, Receipt, Serve, Want, Working

RETRY_SECONDS = 0.05
Answer = Callable[["ScriptedSite", RoundTask, dict[str, bytes]], tuple[Update | Refusal, dict[str, bytes]]]


class ScriptedSite:
    """One site; `run` it as a task, `end` it with `stop`."""

    def __init__(self, name: str, address: str, credentials: Credentials, *, size: int = 50, dataset: str = "birds"):
        self.name = name
        self.address = address
        self.credentials = credentials
        self.size = size
        self.dataset = dataset
        self.answer: Answer = answer
        self.receipts: list[tuple[str, int, Receipt]] = []
        self.serving: dict[str, Serve] = {}
        self.remembers: tuple[str, ...] = ()
        self.forgotten: list[str] = []
        self.asked: list[RoundTask] = []
        self.errors: list[Exception] = []
        self.silent = False
        """Beats no more, and answers nothing."""
        self.heard = asyncio.Event()
        self._working: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._link: Link | None = None

    async def run(self) -> None:
        """Attend for ever, dialling again whenever the link breaks."""
        while True:
            try:
                async with dial(self.address, self.credentials) as link:
                    await self._attend(link)
            except (LinkError, StateError) as error:
                self.errors.append(error)
            self._link = None
            await asyncio.sleep(RETRY_SECONDS)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so, looking again at every message of control."""
        async with asyncio.timeout(60):
            while not true():
                self.heard.clear()
                await self.heard.wait()

    async def _attend(self, link: Link) -> None:
        hello = Hello(site=self.name, agent="scripted", datasets=(self.dataset,), remembers=self.remembers)
        attendance = await link.attend(hello)
        beating = asyncio.create_task(self._beat(attendance))
        try:
            async for message in attendance:
                self._link = link
                self._hear(message)
        finally:
            beating.cancel()
            attendance.close()

    async def _beat(self, attendance: Attendance) -> None:
        with contextlib.suppress(LinkError):
            while True:
                await asyncio.sleep(0.2)
                if not self.silent:
                    working = tuple(Working(run=run, round=number, done=0.5) for run, number in self._working)
                    await attendance.send(Beat(working=working))

    def _hear(self, message: ControlMessage) -> None:
        match message:
            case Assign(task=task):
                self.asked.append(task)
                key = (task.run, task.round)
                if key not in self._working and not self.silent:
                    self._working[key] = asyncio.create_task(self._work(task))
            case Serve():
                self.serving[message.model.name] = message
            case Forget(run=run):
                self.forgotten.append(run)
        self.heard.set()

    async def _work(self, task: RoundTask) -> None:
        while True:
            try:
                if self._link is not None and not self.silent:
                    receipt = await self._do(self._link, task)
                    self.receipts.append((task.run, task.round, receipt))
                    break
            except StaleError:
                break
            except (LinkError, StateError, StorageFullError) as error:
                self.errors.append(error)
            await asyncio.sleep(RETRY_SECONDS)
        del self._working[task.run, task.round]

    async def _do(self, link: Link, task: RoundTask) -> Receipt:
        wanted = {
            "bundle": task.bundle,
            "model": task.model,
            "statistics": task.statistics,
            **{f"input/{name}": blob for name, blob in task.inputs.items()},
            **{f"model/{named.name}": named.blob for named in task.models},
        }
        blobs = {name: await fetched(link, blob) for name, blob in wanted.items() if blob is not None}
        update, parts = self.answer(self, task, blobs)
        for data in parts.values():
            await sent(link, task.run, data)
        return await link.submit(update)


async def fetched(link: Link, blob: Blob) -> bytes:
    """Fetch a whole blob and check it."""
    data = b"".join([piece async for piece in link.get(Want(digest=blob.digest))])
    if len(data) < blob.size_bytes:
        raise LinkError("cut short")
    assert digest_of(data) == blob.digest
    return data


async def sent(link: Link, run: str, data: bytes, *, piece_bytes: int = 64 * 1024) -> None:
    """Send a whole blob, from where control's copy ends."""
    blob = Blob(digest=digest_of(data), size_bytes=len(data))
    have = (await link.offer(Offer(run=run, blob=blob))).have_bytes
    while have < len(data):
        pieces = (data[start : start + piece_bytes] for start in range(have, len(data), piece_bytes))
        have = (await link.put(PutStart(offer=Offer(run=run, blob=blob), offset=have), pieces)).have_bytes


def entropy(*words: object) -> np.random.Generator:
    """Return numbers that depend on the words only."""
    return np.random.default_rng(list(hashlib.sha256(repr(words).encode()).digest()))


def rows_of(site: str) -> int:
    """Rows of a scripted site."""
    return 10 + sum(site.encode()) % 90


def answer(site: ScriptedSite, task: RoundTask, blobs: dict[str, bytes]) -> tuple[Update | Refusal, dict[str, bytes]]:
    """Answer a task by arithmetic."""
    arrays: dict[str, dict[str, Any]] = {}
    extra: dict[str, Any] = {}
    match task.kind:
        case "check":
            manifest = DatasetManifest(
                dataset=site.dataset, digest=digest_of(site.name.encode()), size_bytes=1, rows=rows_of(site.name)
            )
            extra = {"dataset": manifest, "metrics": {"statistics": 1.0}}
        case "statistics":
            arrays["sums"] = {"rows": np.array(float(rows_of(site.name)))}
        case "initialise":
            values = entropy("initialise", task.job.federation.seed).normal(size=site.size)
            arrays["model"] = {"w": values.astype(np.float32)}
        case "train":
            model = unpack(blobs["model"])["w"]
            step = entropy(site.name, task.step).normal(size=site.size).astype(np.float32)
            arrays["delta"] = {"w": np.float32(0.1) * step - np.float32(0.01) * model}
            if task.job.federation.algorithm == "scaffold":
                arrays["control"] = {"w": np.float32(0.2) * step}
            extra = {"weight": float(rows_of(site.name)), "metrics": {"loss_sum": 2.0, "loss_examples": 4.0}}
        case "alone" | "personalise":
            arrays["model"] = {"w": unpack(blobs["model"])["w"] + entropy(site.name).normal(size=site.size)}
            arrays["model"]["w"] = arrays["model"]["w"].astype(np.float32)
        case "evaluate":
            arrays["sums"] = evaluation(site.name, [named.name for named in task.models])
        case "export":
            pass
    parts = {name: pack(values) for name, values in arrays.items()}
    described = {name: described_part(values, parts[name], task) for name, values in arrays.items()}
    if task.kind == "export":
        parts["onnx"] = b"onnx of " + (b"" if task.model is None else task.model.digest.encode())
        blob = Blob(digest=digest_of(parts["onnx"]), size_bytes=len(parts["onnx"]))
        described["onnx"] = Part(blob=blob, shared=task.share)
    parts = {name: data for name, data in parts.items() if described[name].shared}
    update = Update(
        run=task.run, round=task.round, site=site.name, kind=task.kind, parts=described, seconds=0.01, **extra
    )
    return update, parts


def described_part(values: dict[str, Any], data: bytes, task: RoundTask) -> Part:
    """Describe packed arrays."""
    manifest = manifest_of((name, array.shape, array.dtype) for name, array in values.items())
    shared = task.share if task.kind in {"alone", "personalise"} else True
    return Part(blob=Blob(digest=digest_of(data), size_bytes=len(data)), manifest=manifest.digest, shared=shared)


def evaluation(site: str, models: list[str]) -> dict[str, Any]:
    """Sums of a scripted site: rows, of which a share depending on the model's kind is right."""
    share = {"federated": 0.9, "alone": 0.5, "personalised": 1.0}
    sums = {}
    for model in models:
        rows = rows_of(site)
        right = int(rows * share[model.partition("/")[0]])
        sums[f"{model}|classification.examples"] = np.array(float(rows))
        sums[f"{model}|classification.correct"] = np.array(float(right))
        sums[f"{model}|classification.log_loss"] = np.array(0.5 * rows)
    return sums


def new_credentials(name: str, enrol: Callable[[str], tuple[str, str]], folder: Any) -> Credentials:
    """Make a key and have its request certified; `enrol` returns (certificate, CA)."""
    path = folder / f"{name}.key"
    key = keys.load_or_make_key(path)
    certificate, authority = enrol(keys.signing_request(key, name))
    return Credentials(key_pem=path.read_bytes(), certificate_pem=certificate.encode(), ca_pem=authority.encode())
