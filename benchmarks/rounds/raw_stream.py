"""One process of the physical limit: gRPC over mutual TLS streams the bytes in 1 MiB pieces and does nothing else.

    python raw_stream.py server FOLDER BYTES SITES [keep]    serves until killed; writes its port to FOLDER/port
    python raw_stream.py client FOLDER NAME ROUNDS [keep]    each round: fetch the model, stream as many bytes back

The server holds the model once and keeps nothing of what comes back, so this is less than any federated round can do.
A round ends when every client is done with it: the server answers the last one's upload to all.

With `keep` each blob is hashed (SHA-256), written and flushed where it is made and where it arrives, and read from
its file when it is sent: the least a round can cost that verifies what arrives and loses nothing in a crash.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

PIECE = 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", 8 * PIECE), ("grpc.max_send_message_length", 8 * PIECE)]


class Kept:
    """A blob on its way into a file, hashed as it goes; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else path.open("wb")
        self._hash = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        """Take a piece."""
        if self._file is not None:
            self._file.write(piece)
            self._hash.update(piece)

    def close(self) -> str:
        """Flush the file to disk; return the digest."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self._hash.hexdigest()


def keep(path: Path | None, pieces: Iterable[bytes]) -> str:
    """Keep a whole blob."""
    kept = Kept(path)
    for piece in pieces:
        kept.add(piece)
    return kept.close()


def read(path: Path) -> Iterator[bytes]:
    """Yield a file's pieces."""
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


class Server:
    """Streams the model down and counts what comes up."""

    def __init__(self, model: bytes, sites: int, folder: Path, *, keep: bool) -> None:
        self._model = memoryview(model)
        self._barrier = asyncio.Barrier(sites)
        self._marks = folder / "marks"
        self._folder = folder if keep else None
        self._uploads = 0

    async def down(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Send the model."""
        del request, context
        for piece in self._pieces() if self._folder is None else read(self._folder / "model"):
            yield piece

    async def up(self, pieces: AsyncIterator[bytes], context: Any) -> bytes:
        """Take what comes, and answer when all sites are done."""
        del context
        total, number = 0, self._uploads
        self._uploads += 1
        kept = Kept(self._place(f"update{number % self._barrier.parties}"))
        async for piece in pieces:
            total += len(piece)
            kept.add(piece)
        kept.close()
        if total != len(self._model):
            raise RuntimeError(f"{total} of {len(self._model)} bytes came back")
        if await self._barrier.wait() == 0:
            self.begin()
            with self._marks.open("a", encoding="utf-8") as file:
                file.write(".")
        return b""

    def begin(self) -> None:
        """Keep the model of the next round."""
        if self._folder is not None:
            keep(self._place("next"), self._pieces())
            (self._folder / "next").replace(self._folder / "model")

    def _place(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / name

    def _pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self._model), PIECE):
            yield bytes(self._model[start : start + PIECE])


async def serve(folder: Path, model_bytes: int, sites: int, *, keep: bool) -> None:
    """Serve until killed."""
    service = Server(bytes(model_bytes), sites, folder, keep=keep)
    service.begin()
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


async def take_part(folder: Path, name: str, rounds: int, *, kept: bool) -> None:
    """Fetch and send back, so many times."""
    ca, key, certificate = _identity(folder, name)
    address = f"127.0.0.1:{(folder / 'port').read_text()}"
    model, update = folder / f"{name}.model", folder / f"{name}.update"
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate), OPTIONS) as channel:
        down, up = channel.unary_stream("/raw.Raw/Down"), channel.stream_unary("/raw.Raw/Up")
        for _ in range(rounds):
            came, pieces = Kept(model if kept else None), []
            async for piece in down(b""):
                came.add(piece)
                pieces.append(piece)
            came.close()
            keep(update if kept else None, pieces)
            await up(_each(read(update) if kept else pieces))


async def _each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _identity(folder: Path, name: str) -> tuple[bytes, bytes, bytes]:
    tls = folder / "tls"
    return (tls / "ca.pem").read_bytes(), (tls / f"{name}.key").read_bytes(), (tls / f"{name}.pem").read_bytes()


if __name__ == "__main__":
    role, place, first, second, *mode = sys.argv[1:]
    keeps = mode == ["keep"]
    asyncio.run(
        serve(Path(place), int(first), int(second), keep=keeps)
        if role == "server"
        else take_part(Path(place), first, int(second), kept=keeps)
    )
