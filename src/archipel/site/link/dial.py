"""Dial control: one gRPC channel over mutual TLS, and a typed method for each call of the wire contract.

Every failed call raises an ArchipelError: control's own error as the same class, or LinkError when control could not
be reached, or the channel was closed meanwhile (the caller tries again later; nothing is retried here). asyncio's
CancelledError is raised only where the caller's own task is cancelled.

Example:
    async with dial(address, credentials) as link:
        receipt = await link.submit(update)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import chain
from typing import Any, Self

import grpc
import grpc.aio
import msgspec

from archipel.site.link import protocol
from archipel.site.link.gauge import Gauge
from archipel.spec import LinkError, Refusal, Update, encode
from archipel.spec.wire import Certificate, ControlMessage, Hello, Offer, Offset, Receipt, SiteMessage, Want


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a site proves itself with, and whom it trusts; all PEM."""

    key_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes


class Link:
    """An open channel to control."""

    def __init__(self, channel: grpc.aio.Channel, gauge: Gauge) -> None:
        self._gauge = gauge
        self._attend = channel.stream_stream(protocol.ATTEND)
        self._submit = channel.unary_unary(protocol.SUBMIT)
        self._offer = channel.unary_unary(protocol.OFFER)
        self._put = channel.stream_unary(protocol.PUT)
        self._get = channel.unary_stream(protocol.GET)
        self._renew = channel.unary_unary(protocol.RENEW)

    async def attend(self, hello: Hello) -> Attendance:
        """Open the stream and say Hello."""
        call = self._attend()
        with _named_errors():
            await call.write(encode(hello))
        return Attendance(call)

    async def submit(self, answer: Update | Refusal) -> Receipt:
        """Hand in an answer."""
        with _named_errors():
            return protocol.read_receipt(await self._submit(encode(answer)))

    async def offer(self, offer: Offer) -> Offset:
        """Ask from which byte on control misses a blob."""
        with _named_errors():
            return protocol.read_offset(await self._offer(encode(offer)))

    async def put(self, start: protocol.PutStart, pieces: Iterator[bytes]) -> Offset:
        """Send a blob's bytes from `start.offset` on; what `pieces` raises ends the call and is raised here."""
        trouble: list[Exception] = []
        begun = time.perf_counter()
        call = self._put(_watched(chain([encode(start)], pieces), trouble))
        try:
            with _named_errors():
                reached = protocol.read_offset(await call)
            self._gauge.note("up", size_bytes=reached.have_bytes - start.offset, seconds=time.perf_counter() - begun)
            return reached
        except LinkError as error:
            raise (trouble[0] if trouble else error) from None
        finally:
            call.cancel()

    async def get(self, want: Want) -> AsyncIterator[bytes]:
        """Yield a blob's bytes from `want.offset` on."""
        begun, size = time.perf_counter(), 0
        with _named_errors():
            async for piece in self._get(encode(want)):
                size += len(piece)
                yield piece
        self._gauge.note("down", size_bytes=size, seconds=time.perf_counter() - begun)

    async def renew(self, csr_pem: str) -> Certificate:
        """Get a fresh certificate for the name this link is made with."""
        with _named_errors():
            return protocol.read_certificate(await self._renew(encode(protocol.Renewal(csr_pem=csr_pem))))


class Attendance:
    """The open two-way stream: iterate over what control says, `send` what the site says."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, message: SiteMessage) -> None:
        """Say something to control."""
        with _named_errors():
            await self._call.write(encode(message))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ControlMessage:
        with _named_errors():
            data = await self._call.read()
            if data is grpc.aio.EOF:
                raise StopAsyncIteration
            return protocol.read_control_message(data)

    def close(self) -> None:
        """End the stream at once."""
        self._call.cancel()


@asynccontextmanager
async def dial(address: str, credentials: Credentials, gauge: Gauge | None = None) -> AsyncIterator[Link]:
    """Open a channel to control's port for sites; calls fail with LinkError until it is reached.

    `gauge` learns how fast blobs go.
    """
    tls = grpc.ssl_channel_credentials(
        root_certificates=credentials.ca_pem,
        private_key=credentials.key_pem,
        certificate_chain=credentials.certificate_pem,
    )
    options = [*protocol.CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.aio.secure_channel(address, tls, options=options)
    try:
        yield Link(channel, gauge or Gauge())
    finally:
        await channel.close()


def _watched(messages: Iterator[bytes], trouble: list[Exception]) -> Iterator[bytes]:
    """Yield messages, and keep the error they end in: gRPC makes a cancellation of it, and drops it.

    They are not written by hand: a write waits for ever where the channel is closed before it connects.
    """
    try:
        yield from messages
    except Exception as error:
        trouble.append(error)
        raise


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except asyncio.CancelledError as error:
        # Closing a channel cancels the calls on it, which is not a wish that the caller's own task end.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise protocol.broken("its channel was closed") from error
    except grpc.aio.AioRpcError as error:
        raise protocol.error_of(error) from error
    except (grpc.aio.UsageError, grpc.aio.InternalError) as error:
        raise protocol.broken(str(error)) from error
