"""Shelf: what the site serves. Takes control's Serve, finds the copy, lets the inference server answer with it.

The personalised copy is taken where Serve asks for it and the site has one; else the global model is fetched. What is
served is in the journal, so a restarted agent answers again before control is reached. The server (and the libraries
it needs) starts with the first model.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec

from archipel.data.stores.spool import Spool
from archipel.site.agent.line import Line
from archipel.site.journal import Journal, Serving
from archipel.site.link.transfer import fetch
from archipel.site.worker.memory import PERSONALISED_ONNX
from archipel.spec import ArchipelError, Blob, ServedModel, StateError
from archipel.spec.wire import Note, Serve

if TYPE_CHECKING:
    from archipel.site.inference.models import Models
    from archipel.site.inference.server import InferenceServer

_LOG = logging.getLogger("archipel.site")
_PORT = "inference.port"
Copy = Literal["global", "personalised"]


class Shelf:
    """Models on offer at this site."""

    def __init__(
        self, *, journal: Journal, spool: Spool, line: Line, changed: Callable[[], None], note: Callable[[Note], None]
    ) -> None:
        self._journal = journal
        self._spool = spool
        self._line = line
        self._changed = changed
        self._note = note
        self._models: Models | None = None
        self._server: InferenceServer | None = None
        self._turn = asyncio.Lock()
        self._coming: set[str] = set()
        self._jobs: set[asyncio.Task[None]] = set()

    def serving(self) -> tuple[ServedModel, ...]:
        """What answers, and where."""
        if self._models is None or self._server is None:
            return ()
        url = self._server.url
        return tuple(msgspec.structs.replace(served, url=url) for served in self._models.served())

    def coming(self) -> frozenset[str]:
        """Return the blobs that will be served and are not in the journal yet: nobody may drop them meanwhile."""
        return frozenset(self._coming)

    def restore(self) -> None:
        """Serve again what was served before."""
        for serving in self._journal.served():
            self._begin(partial(self._offer, serving))

    def take(self, serve: Serve) -> None:
        """Serve what control asks for, once it is here."""
        self._begin(partial(self._fetch_and_offer, serve))

    async def close(self) -> None:
        """Stop answering."""
        for job in tuple(self._jobs):
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        if self._server is not None:
            await self._server.stop()

    def _begin(self, work: Callable[[], object]) -> None:
        job = asyncio.get_running_loop().create_task(self._named(work))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _named(self, work: Callable[[], object]) -> None:
        try:
            async with self._turn:
                await work()  # type: ignore[misc]
        except ArchipelError as error:
            self._tell(error.message, error.hint)
        except Exception as error:  # noqa: BLE001
            # A library that is missing, a disk that does not read: whatever it is, control is told what kind of error.
            _LOG.exception("a model cannot be served")
            self._tell(f"a model cannot be served: {type(error).__name__}", "the site's log says where")
        self._changed()

    def _tell(self, message: str, hint: str) -> None:
        self._note(Note(what="site.serve.failed", level="error", detail={"message": message, "hint": hint}))

    async def _fetch_and_offer(self, serve: Serve) -> None:
        own = self._journal.recall(serve.model.run, sys.maxsize).get(PERSONALISED_ONNX)
        copy: Copy = "personalised" if serve.copy == "personalised" and own is not None else "global"
        onnx = own if copy == "personalised" else serve.model.onnx
        if onnx is None:
            message = f"model {serve.model.name!r} version {serve.model.version} has no ONNX file to serve"
            raise StateError(message, hint='run its job with serve = "global" or "personalised" in [deployment]')
        serving = Serving(serve=serve, copy=copy, onnx=onnx)
        self._coming.add(onnx.digest)  # it may be here as an answer's part, which goes once control has its receipt
        try:
            if copy == "global":
                await self._bring(onnx)
            await self._offer(serving)
            await asyncio.to_thread(self._journal.serve, serving)
        finally:
            self._coming.discard(onnx.digest)

    async def _bring(self, onnx: Blob) -> None:
        await self._line.insist(partial(fetch, spool=self._spool, blob=onnx))

    async def _offer(self, serving: Serving) -> None:
        from archipel.site.inference.models import Model, Models  # noqa: PLC0415 (loads onnxruntime: only to serve)
        from archipel.site.inference.server import InferenceServer  # noqa: PLC0415

        model = serving.serve.model
        served = ServedModel(name=model.name, version=model.version, copy=serving.copy, digest=serving.onnx.digest)
        onnx = await asyncio.to_thread(lambda: bytes(self._spool.view(serving.onnx.digest)))
        opened = await asyncio.to_thread(Model, served, onnx)
        if self._models is None:
            self._models = Models()
        self._models.switch(opened)
        if self._server is None:
            self._server = await InferenceServer.start(self._models, int(self._journal.setting(_PORT) or 0))
            self._journal.remember(_PORT, str(self._server.port))
