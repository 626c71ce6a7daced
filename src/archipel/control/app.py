"""The control plane as one process: compose the services, open both doors, serve until told to stop.

    python -m archipel.control --state DIR

Order of a start: the lock on the state, the database brought up to date, unfinished runs rebuilt, the doors opened,
`operator.json` written. Order of an end: the doors closed, the work under way finished, the lock let go.
"""

from __future__ import annotations

import asyncio
import ctypes
import datetime as dt
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import grpc
import grpc.aio
import structlog
import uvicorn

from archipel.control.api import people
from archipel.control.api.house import House
from archipel.control.settings import Settings
from archipel.security import load_or_make_key, write_secret
from archipel.site.link import protocol
from archipel.spec import ArchipelError, StateError

_M_ARENA_MAX = -8
TICK_SECONDS = 0.25
GRACE_SECONDS = 0.5
"""Open calls of sites have this long to end when the process does; sites dial again."""
SERVER_LIFETIME = dt.timedelta(days=365)
"""Of the server's own certificate, made anew at every start."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    _share_memory_between_threads()
    asyncio.run(_run(settings))


def _share_memory_between_threads() -> None:
    """Let glibc keep two heaps, not one a thread: pieces of blobs freed in one thread are used again in another."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop)


async def serve(settings: Settings, stop: asyncio.Event, ready: Callable[[House], None] | None = None) -> None:
    """Serve until `stop` is set; `ready` is told once both doors are open.

    Raises:
        StateError: another control plane holds the state, or a newer one has made it.
    """
    with ExitStack() as closing:
        house = await asyncio.to_thread(House.open, settings, time.time, time.monotonic, closing)
        async with AsyncExitStack() as doors:
            certificate = await asyncio.to_thread(_certify, house, settings)
            house.sites_port = await doors.enter_async_context(_sites_door(house, settings, certificate))
            house.http_port = await doors.enter_async_context(_peoples_door(house, settings, certificate))
            house.write_operator(os.urandom)
            structlog.get_logger().info("control.serves", url=house.url(), sites=house.sites_address())
            if ready is not None:
                ready(house)
            await _tick(house, stop)


async def _tick(house: House, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await asyncio.to_thread(house.runs.tick)
        except StateError:
            raise  # fenced off: another control plane has taken over
        except ArchipelError as error:
            # The database is away for a moment: what was to be noted is noted by a later tick.
            structlog.get_logger().warning("tick.delayed", reason=str(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK_SECONDS):
                await stop.wait()


def _certify(house: House, settings: Settings) -> tuple[Path, Path]:
    """Make the server's certificate; return (key file, certificate file)."""
    folder = settings.state / "tls"
    key_path, path = folder / "server.key", folder / "server.pem"
    key = load_or_make_key(key_path)
    names = tuple(dict.fromkeys((*settings.names, settings.local_name, "localhost", "127.0.0.1")))
    pem = house.authority.certify_control(key, names, dt.datetime.now(dt.UTC), SERVER_LIFETIME)
    write_secret(path, (pem + house.authority.pem).encode())
    return key_path, path


@asynccontextmanager
async def _sites_door(house: House, settings: Settings, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    key, chain = (path.read_bytes() for path in certificate)
    credentials = grpc.ssl_server_credentials(
        [(key, chain)], root_certificates=house.authority.pem.encode(), require_client_auth=True
    )
    server = grpc.aio.server(options=protocol.SERVER_OPTIONS)
    server.add_generic_rpc_handlers((protocol.handlers(house.sites_door),))
    try:
        port = server.add_secure_port(f"{settings.host}:{settings.sites_port}", credentials)
    except RuntimeError as error:
        raise _taken(settings.host, settings.sites_port) from error
    await server.start()
    try:
        yield port
    finally:
        await server.stop(GRACE_SECONDS)


@asynccontextmanager
async def _peoples_door(house: House, settings: Settings, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    key, chain = certificate
    config = uvicorn.Config(
        people.build(house.office(), settings.max_bundle_bytes),
        ssl_keyfile=str(key),
        ssl_certfile=str(chain),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,  # else whoever is on this machine could say they come from elsewhere
        timeout_graceful_shutdown=1,
    )
    listening = _listen(settings.host, settings.http_port)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        if serving.done():
            serving.result()
            raise StateError("the HTTPS port did not open", hint="look at the log above")
        await asyncio.sleep(0.005)
    try:
        yield int(listening.getsockname()[1])
    finally:
        server.should_exit = True
        await serving


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise _taken(host, port) from error


def _taken(host: str, port: int) -> StateError:
    return StateError(
        f"cannot listen on {host}:{port}", hint="another process has the port: choose another, or stop that one"
    )


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals: the process has one."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
