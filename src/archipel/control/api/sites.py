"""The sites' door: the servicer of `archipel.site.link.protocol`, over the services.

Who calls is known from the certificate alone; a message that names another site is refused. Everything that touches
the disk or the database runs off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import suppress
from itertools import islice

import msgspec

from archipel import __version__
from archipel.control.api.intake import Intake
from archipel.control.services.heads import Heads
from archipel.control.services.rounds.driver import Driver
from archipel.control.services.rounds.runs import Readable, Runs
from archipel.control.services.sites.enrolment import Enrolments
from archipel.control.services.sites.fleet import Fleet
from archipel.control.services.sites.inventories import Inventories
from archipel.control.services.sites.notes import Notes
from archipel.control.services.sites.presence import Attendance, Attendances
from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.site.link.protocol import PutStart, Renewal
from archipel.spec import DigestError, Refusal, RoundTask, SpecError, TrustError, Update
from archipel.spec.inventory import SiteInventory
from archipel.spec.wire import (
    CHUNK_BYTES,
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

HEAD_SECONDS = 10.0
"""A site with an open stream is shown a newer head of the audit log so often, at the most."""
PIECES_A_HOP = 4
"""Pieces of a blob read from the disk in one visit to a thread."""


class Back(msgspec.Struct, frozen=True, kw_only=True):
    """What stands behind the sites' door."""

    enrolments: Enrolments
    attendances: Attendances
    fleet: Fleet
    runs: Runs
    notes: Notes
    inventories: Inventories
    heads: Heads
    spool: Spool
    artefacts: Artefacts
    intake: Intake
    monotonic: Callable[[], float]


class SitesDoor:
    """Implements `protocol.Servicer`."""

    def __init__(self, back: Back, address: Callable[[], str]) -> None:
        self._back = back
        self._address = address
        """host:port of this door, as sites are told; known once it listens."""

    # ---- the stream ---------------------------------------------------------------------------------------------

    async def attend(
        self, messages: AsyncIterator[SiteMessage], certificate_pem: bytes
    ) -> AsyncGenerator[ControlMessage, None]:
        """Hold a site's stream: read what it says, yield what it is told."""
        site = await self._caller(certificate_pem)
        hello = await anext(messages, None)
        if not isinstance(hello, Hello):
            raise SpecError("the first message of a stream is Hello", hint="run the same archipel version everywhere")
        _require_same(site, hello.site)
        outbox: asyncio.Queue[ControlMessage | None] = asyncio.Queue()
        attendance = self._enter(hello, outbox)
        listener = asyncio.create_task(self._listen(messages, attendance, outbox))
        try:
            yield Welcome(
                control=__version__,
                busy_lease_seconds=self._back.attendances.busy_seconds,
                idle_lease_seconds=self._back.attendances.idle_seconds,
            )
            await asyncio.to_thread(self._show_head, attendance)
            await asyncio.to_thread(self._greet, hello)
            while (message := await outbox.get()) is not None:
                yield message
            if listener.done():
                listener.result()
        finally:
            listener.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await listener
            if self._back.attendances.leave(attendance):
                with suppress(asyncio.CancelledError):
                    await asyncio.to_thread(self._back.fleet.note_seen, site, attendance.serving)

    def _enter(self, hello: Hello, outbox: asyncio.Queue[ControlMessage | None]) -> Attendance:
        loop = asyncio.get_running_loop()

        def send(message: ControlMessage | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: the process ends, and the site will dial again
                loop.call_soon_threadsafe(outbox.put_nowait, message)

        attendance = Attendance(
            site=hello.site,
            send=send,
            seen=self._back.monotonic(),
            datasets=hello.datasets,
            working=hello.working,
            serving=hello.serving,
            witnessed=hello.witnessed,
        )
        self._back.attendances.enter(attendance)
        return attendance

    def _show_head(self, attendance: Attendance) -> None:
        """Show the site the audit log's head, with the proof that it goes on from the one shown before."""
        attendance.shown = self._back.monotonic()
        growth = self._back.heads.growth(attendance.witnessed)
        if growth.head.head.size != attendance.witnessed or not attendance.greeted:
            attendance.greeted, attendance.witnessed = True, growth.head.head.size
            attendance.send(growth)

    def _greet(self, hello: Hello) -> None:
        self._back.fleet.greet(hello)
        known = {work.run for work in hello.working} | set(hello.remembers)
        self._back.runs.here(hello.site, tuple(sorted(known)))

    async def _listen(
        self,
        messages: AsyncIterator[SiteMessage],
        attendance: Attendance,
        outbox: asyncio.Queue[ControlMessage | None],
    ) -> None:
        try:
            async for message in messages:
                await self._touch(attendance.site)
                match message:
                    case Beat():
                        await self._beat(attendance, message)
                    case Note():
                        await asyncio.to_thread(self._back.notes.keep, attendance.site, message)
                    case SiteInventory():
                        await asyncio.to_thread(self._back.inventories.keep, attendance.site, message)
                    case Hello():
                        raise SpecError("Hello is said once", hint="open a new stream")
        finally:
            outbox.put_nowait(None)

    async def _beat(self, attendance: Attendance, beat: Beat) -> None:
        serves_new = beat.serving != attendance.serving
        moved = beat.working != attendance.working
        attendance.working, attendance.serving = beat.working, beat.serving
        if serves_new:
            await asyncio.to_thread(self._back.fleet.note_seen, attendance.site, beat.serving)
        if moved:
            self._back.runs.moved(beat.working)
        if self._back.monotonic() - attendance.shown >= HEAD_SECONDS:
            await asyncio.to_thread(self._show_head, attendance)
        if attendance.assigned:
            await asyncio.to_thread(self._back.runs.remind, attendance.site, beat.working)

    # ---- answers and blobs --------------------------------------------------------------------------------------

    async def submit(self, answer: Update | Refusal, certificate_pem: bytes) -> Receipt:
        """Take an answer, exactly once."""
        site = await self._caller(certificate_pem)
        _require_same(site, answer.site)
        return await asyncio.to_thread(self._back.runs.submit, answer)

    async def offer(self, offer: Offer, certificate_pem: bytes) -> Offset:
        """Say from which byte on the blob is missing."""
        site = await self._caller(certificate_pem)
        return Offset(have_bytes=await asyncio.to_thread(self._back.runs.missing, site, offer))

    async def put(self, start: PutStart, chunks: AsyncIterator[bytes], certificate_pem: bytes) -> Offset:
        """Take a blob's bytes from `start.offset` on."""
        site = await self._caller(certificate_pem)
        waiting: list[tuple[Driver, RoundTask]] = []
        """Filled by `wanted`: one, or none."""

        def wanted() -> bool:
            # Where not, it was counted before or is stale: nothing is missing, and the receipt of Submit says which.
            waiting.extend(filter(None, [self._back.runs.admit(site, start.offer)]))
            return bool(waiting)

        def came(size: int) -> None:
            self._require_still(site, certificate_pem)
            self._back.attendances.note_piece(site, self._back.monotonic())
            for driver, task in waiting:
                driver.traffic.count(site, task.kind, up_bytes=size)

        return Offset(have_bytes=await self._back.intake.take(start.offer.blob, start.offset, chunks, came, wanted))

    async def get(self, want: Want, certificate_pem: bytes) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes from `want.offset` on."""
        site = await self._caller(certificate_pem)
        readable = await asyncio.to_thread(self._back.runs.readable, site, want.digest)
        pieces, offset = self._pieces(readable, want.offset), want.offset
        while offset < readable.blob.size_bytes:
            for piece in await asyncio.to_thread(_some, pieces, digest=want.digest):
                self._require_still(site, certificate_pem)
                self._back.attendances.note_piece(site, self._back.monotonic())
                self._back.runs.count(readable, site, len(piece))
                offset += len(piece)
                yield piece

    def _pieces(self, readable: Readable, offset: int) -> Iterator[bytes]:
        digest = readable.blob.digest
        if self._back.spool.has(digest):
            return self._back.spool.read(digest, offset, CHUNK_BYTES)
        return self._back.artefacts.read(digest, offset, CHUNK_BYTES)

    async def renew(self, renewal: Renewal, certificate_pem: bytes) -> Certificate:
        """Issue a fresh certificate for the caller's name."""
        site = await self._caller(certificate_pem)
        return await asyncio.to_thread(self._back.enrolments.renew, site, renewal.csr_pem, self._address())

    async def _caller(self, certificate_pem: bytes) -> str:
        site = self._back.enrolments.known(certificate_pem)
        if site is None:
            site = await asyncio.to_thread(self._back.enrolments.require, certificate_pem)
        await self._touch(site)
        return site

    def _require_still(self, site: str, certificate_pem: bytes) -> None:
        """Break off a transfer whose site was revoked, or whose certificate ended, since it was let in."""
        if self._back.enrolments.known(certificate_pem) is None:
            hint = f"ask for `archipel invite {site}`, then join again"
            raise TrustError(f"the certificate of {site} no longer holds", hint=hint)

    async def _touch(self, site: str) -> None:
        if self._back.attendances.touch(site, self._back.monotonic()):
            await asyncio.to_thread(self._back.runs.back, site)


def _some(pieces: Iterator[bytes], *, digest: str) -> tuple[bytes, ...]:
    """Read a few pieces, at least one."""
    read = tuple(islice(pieces, PIECES_A_HOP))
    if not read:
        raise DigestError(f"the file of blob {digest} is cut short", hint="restore it from a backup; check the disk")
    return read


def _require_same(caller: str, named: str) -> None:
    if named != caller:
        raise TrustError(
            f"{caller} may not speak for {named}", hint="each site uses the certificate it got when it joined"
        )
