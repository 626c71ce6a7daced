"""One process of the physical limit: gRPC over mutual TLS streams the bytes in 1 MiB pieces and does nothing else.

    python raw_stream.py server FOLDER BYTES SITES    serves until killed; writes its port to FOLDER/port
    python raw_stream.py client FOLDER NAME ROUNDS    each round: fetch the model, stream as many bytes back

The server holds the model once and keeps nothing of what comes back, so this is less than any federated round can do.
A round ends when every client is done with it: the server answers the last one's upload to all.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

PIECE = 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", 8 * PIECE), ("grpc.max_send_message_length", 8 * PIECE)]


class Server:
    """Streams the model down and counts what comes up."""

    def __init__(self, model: bytes, sites: int, marks: Path) -> None:
        self._model = memoryview(model)
        self._barrier = asyncio.Barrier(sites)
        self._marks = marks

    async def down(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Send the model."""
        del request, context
        for start in range(0, len(self._model), PIECE):
            yield bytes(self._model[start : start + PIECE])

    async def up(self, pieces: AsyncIterator[bytes], context: Any) -> bytes:
        """Take what comes, and answer when all sites are done."""
        del context
        total = 0
        async for piece in pieces:
            total += len(piece)
        if total != len(self._model):
            raise RuntimeError(f"{total} of {len(self._model)} bytes came back")
        if await self._barrier.wait() == 0:
            with self._marks.open("a", encoding="utf-8") as file:
                file.write(".")
        return b""


async def serve(folder: Path, model_bytes: int, sites: int) -> None:
    """Serve until killed."""
    service = Server(bytes(model_bytes), sites, folder / "marks")
    methods = {
        "Down": grpc.unary_stream_rpc_method_handler(service.down),
        "Up": grpc.stream_unary_rpc_method_handler(service.up),
    }
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("raw.Raw", methods),))
    ca, key, certificate = _identity(folder, "server")
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    (folder / "port.new").write_text(str(port))
    (folder / "port.new").rename(folder / "port")
    await server.wait_for_termination()


async def take_part(folder: Path, name: str, rounds: int) -> None:
    """Fetch and send back, so many times."""
    ca, key, certificate = _identity(folder, name)
    address = f"127.0.0.1:{(folder / 'port').read_text()}"
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate), OPTIONS) as channel:
        down, up = channel.unary_stream("/raw.Raw/Down"), channel.stream_unary("/raw.Raw/Up")
        for _ in range(rounds):
            pieces = [piece async for piece in down(b"")]
            await up(_each(pieces))


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _identity(folder: Path, name: str) -> tuple[bytes, bytes, bytes]:
    tls = folder / "tls"
    return (tls / "ca.pem").read_bytes(), (tls / f"{name}.key").read_bytes(), (tls / f"{name}.pem").read_bytes()


if __name__ == "__main__":
    role, place, first, second = sys.argv[1:5]
    asyncio.run(
        serve(Path(place), int(first), int(second)) if role == "server" else take_part(Path(place), first, int(second))
    )
