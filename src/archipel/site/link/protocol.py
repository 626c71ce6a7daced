"""The wire contract of sites and control: method names, codecs, errors and channel options, in one place.

One gRPC service, `archipel.Sites`. Every message is the canonical JSON of a spec value, except the pieces of a
blob, which are raw bytes of at most CHUNK_BYTES.

    Attend   stream SiteMessage → stream ControlMessage    held open; Hello first, Welcome back
    Submit   Update | Refusal   → Receipt                  idempotent by (run, round, site)
    Offer    Offer              → Offset                   from which byte on a blob is missing
    Put      PutStart, bytes…   → Offset                   the blob from `start.offset` on; size_bytes: all is held
    Get      Want               → bytes…                   the blob from `want.offset` on
    Renew    Renewal            → Certificate              a fresh certificate for the caller's own name

Rules: an ArchipelError raised by a servicer crosses as a Failure in the status details and is raised again as the
same class; nothing is retried by gRPC itself; both sides use CHANNEL_OPTIONS or SERVER_OPTIONS.

Control serves it (any object with the six methods):

    server = grpc.aio.server(options=protocol.SERVER_OPTIONS)
    server.add_generic_rpc_handlers((protocol.handlers(servicer),))

The site calls it through `archipel.site.link.dial`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any, NoReturn, Protocol, TypeVar

import grpc
import grpc.aio
import msgspec

from archipel.spec import ArchipelError, LinkError, Refusal, SpecError, TrustError, Update, Value, errors
from archipel.spec.canonical import encode
from archipel.spec.wire import (
    CHUNK_BYTES,
    Certificate,
    ControlMessage,
    Failure,
    Offer,
    Offset,
    Receipt,
    SiteMessage,
    Want,
)

SERVICE = "archipel.Sites"
ATTEND = f"/{SERVICE}/Attend"
SUBMIT = f"/{SERVICE}/Submit"
OFFER = f"/{SERVICE}/Offer"
PUT = f"/{SERVICE}/Put"
GET = f"/{SERVICE}/Get"
RENEW = f"/{SERVICE}/Renew"

MESSAGE_BYTES = 8 * CHUNK_BYTES
"""Largest message either side sends or takes; blobs move in pieces far below it."""
_HEADER_BYTES = 2800
"""Room for each text of an error on the wire: gRPC carries them in a header of 8 KiB, percent-encoded."""
WINDOW_BYTES = 2 * CHUNK_BYTES
"""How much of a blob may be under way on a stream. Left to itself, gRPC lets this grow until hundreds of megabytes lie
in its buffers (measured: 410 MB for 4 x 100 MB, 82 MB with a fixed window, and a tenth less CPU)."""
_SHARED_OPTIONS = [
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
CHANNEL_OPTIONS: list[tuple[str, int]] = [
    *_SHARED_OPTIONS,
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
SERVER_OPTIONS: list[tuple[str, int]] = [
    *_SHARED_OPTIONS,
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # A starved site may send its pings in a heap; that is no reason to hang up on it.
    ("grpc.http2.max_ping_strikes", 0),
]


class PutStart(Value, frozen=True, kw_only=True, tag_field="type", tag="put/1"):
    """First message of Put: what follows are the blob's bytes from `offset` on."""

    offer: Offer
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0


class Renewal(Value, frozen=True, kw_only=True, tag_field="type", tag="renewal/1"):
    """A site asks for a fresh certificate; the one it calls with proves its name."""

    csr_pem: str


T = TypeVar("T")
_STATUS_OF: tuple[tuple[type[ArchipelError], str], ...] = (
    (errors.DigestError, "DATA_LOSS"),
    (errors.TrustError, "PERMISSION_DENIED"),
    (errors.StorageFullError, "RESOURCE_EXHAUSTED"),
    (errors.StaleError, "ABORTED"),
    (errors.StateError, "FAILED_PRECONDITION"),
    (errors.SpecError, "INVALID_ARGUMENT"),
    (errors.LinkError, "UNAVAILABLE"),
    (errors.ArchipelError, "FAILED_PRECONDITION"),
)


class Reader:
    """Decodes one message type (or a union of tagged ones); anything else is a SpecError."""

    def __init__(self, kind: Any, name: str) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._name = name

    def __call__(self, data: bytes) -> Any:
        """Return the value in `data`."""
        try:
            return self._decoder.decode(data)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            hint = "both sides must run the same archipel version"
            raise SpecError(f"not a valid {self._name}: {error}", hint=hint) from error


read_site_message: Callable[[bytes], SiteMessage] = Reader(SiteMessage, "message of a site")
read_control_message: Callable[[bytes], ControlMessage] = Reader(ControlMessage, "message of control")
read_answer: Callable[[bytes], Update | Refusal] = Reader(Update | Refusal, "Update or Refusal")
read_receipt: Callable[[bytes], Receipt] = Reader(Receipt, "Receipt")
read_offer: Callable[[bytes], Offer] = Reader(Offer, "Offer")
read_offset: Callable[[bytes], Offset] = Reader(Offset, "Offset")
read_put_start: Callable[[bytes], PutStart] = Reader(PutStart, "PutStart")
read_want: Callable[[bytes], Want] = Reader(Want, "Want")
read_renewal: Callable[[bytes], Renewal] = Reader(Renewal, "Renewal")
read_certificate: Callable[[bytes], Certificate] = Reader(Certificate, "Certificate")
_read_failure: Callable[[bytes], Failure] = Reader(Failure, "Failure")


class Servicer(Protocol):
    """What control implements. `certificate_pem` is the caller's leaf, already verified against the CA by TLS."""

    def attend(
        self, messages: AsyncIterator[SiteMessage], certificate_pem: bytes
    ) -> AsyncGenerator[ControlMessage, None]:
        """Hold a site's stream (an async generator): read what it says, yield what it is told."""
        ...

    async def submit(self, answer: Update | Refusal, certificate_pem: bytes) -> Receipt:
        """Take an answer, exactly once."""
        ...

    async def offer(self, offer: Offer, certificate_pem: bytes) -> Offset:
        """Say from which byte on the blob is missing."""
        ...

    async def put(self, start: PutStart, chunks: AsyncIterator[bytes], certificate_pem: bytes) -> Offset:
        """Take a blob's bytes from `start.offset` on; DigestError when whole and wrong."""
        ...

    def get(self, want: Want, certificate_pem: bytes) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes from `want.offset` on (an async generator)."""
        ...

    async def renew(self, renewal: Renewal, certificate_pem: bytes) -> Certificate:
        """Issue a fresh certificate for the caller's name."""
        ...


def failure_of(error: ArchipelError) -> Failure:
    """Return `error` as it crosses the wire."""
    return Failure(error=type(error).__name__, message=_cut(error.message), hint=_cut(error.hint))


def _cut(text: str) -> str:
    """Return as much of `text` as has room on the wire."""
    room = _HEADER_BYTES
    for index, character in enumerate(text):
        plain = character.isascii() and character.isprintable() and character not in '"\\%'
        room -= 1 if plain else 6 + 3 * len(character.encode(errors="replace"))
        if room < 0:
            return text[:index] + "…"
    return text


def error_of(call: grpc.aio.AioRpcError) -> ArchipelError:
    """Return what a failed call means: the other side's own error, or that it could not be reached."""
    details = call.details() or ""
    try:
        return _read_failure(details.encode()).as_error()
    except SpecError:
        code = call.code().name
    if "CERTIFICATE_VERIFY_FAILED" in details:
        hint = "the site was joined to another control plane, or control's CA was replaced: join again"
        return TrustError(f"control's certificate is not trusted: {details}", hint=hint)
    return LinkError(f"control cannot be reached: {code}: {details}", hint="is control running? the site tries again")


def broken(reason: str) -> LinkError:
    """Return the LinkError for a call whose stream or channel was closed under it."""
    return LinkError(f"the link to control broke: {reason}", hint="the site tries again")


async def abort(context: Any, error: ArchipelError) -> NoReturn:
    """End a call with `error` (server side)."""
    code = next(name for kind, name in _STATUS_OF if isinstance(error, kind))
    await context.abort(getattr(grpc.StatusCode, code), encode(failure_of(error)).decode())
    raise AssertionError("abort always raises")


def peer_certificate(context: Any) -> bytes:
    """Return the caller's certificate (PEM), as TLS verified it."""
    pems = context.auth_context().get("x509_pem_cert", [])
    if not pems:
        raise TrustError("no client certificate", hint="join the site first: archipel join")
    return bytes(pems[0])


def handlers(servicer: Servicer) -> Any:
    """Return the gRPC handlers that decode, call `servicer`, encode, and carry errors across."""
    table = {
        "Attend": grpc.stream_stream_rpc_method_handler(_streaming(_attend, servicer)),
        "Submit": grpc.unary_unary_rpc_method_handler(_unary(read_answer, servicer.submit)),
        "Offer": grpc.unary_unary_rpc_method_handler(_unary(read_offer, servicer.offer)),
        "Put": grpc.stream_unary_rpc_method_handler(_put(servicer)),
        "Get": grpc.unary_stream_rpc_method_handler(_streaming(_get, servicer)),
        "Renew": grpc.unary_unary_rpc_method_handler(_unary(read_renewal, servicer.renew)),
    }
    return grpc.method_handlers_generic_handler(SERVICE, table)


def _unary(
    read: Callable[[bytes], Any], method: Callable[[Any, bytes], Awaitable[Any]]
) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def call(request: bytes, context: Any) -> bytes:
        try:
            return encode(await method(read(request), peer_certificate(context)))
        except ArchipelError as error:
            await abort(context, error)

    return call


def _put(servicer: Servicer) -> Callable[[AsyncIterator[bytes], Any], Awaitable[bytes]]:
    async def call(requests: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            start = read_put_start(await _first(requests))
            return encode(await servicer.put(start, requests, peer_certificate(context)))
        except ArchipelError as error:
            await abort(context, error)

    return call


async def _first(requests: AsyncIterator[bytes]) -> bytes:
    async for request in requests:
        return request
    raise SpecError("an empty stream", hint="the first message of Put is its PutStart")


Opened = Callable[[Servicer, Any, bytes], AsyncGenerator[bytes, None]]


def _streaming(opened: Opened, servicer: Servicer) -> Callable[[Any, Any], AsyncIterator[bytes]]:
    async def call(request: Any, context: Any) -> AsyncIterator[bytes]:
        try:
            async with aclosing(opened(servicer, request, peer_certificate(context))) as answers:
                async for answer in answers:
                    yield answer
        except ArchipelError as error:
            await abort(context, error)

    return call


async def _attend(servicer: Servicer, requests: AsyncIterator[bytes], pem: bytes) -> AsyncGenerator[bytes, None]:
    async def messages() -> AsyncIterator[SiteMessage]:
        async for request in requests:
            yield read_site_message(request)

    async with aclosing(servicer.attend(messages(), pem)) as answers:
        async for answer in answers:
            yield encode(answer)


async def _get(servicer: Servicer, request: bytes, pem: bytes) -> AsyncGenerator[bytes, None]:
    async with aclosing(servicer.get(read_want(request), pem)) as chunks:
        async for chunk in chunks:
            yield chunk
