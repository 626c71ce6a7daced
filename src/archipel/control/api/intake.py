"""Taking a blob in from a site: piece by piece into the spool, off the event loop, one writer a blob.

Sites of one round may send the same bytes (every site builds the same first model): whoever comes second waits for
the first one's pieces and then has nothing left to send.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import ParamSpec, TypeVar

from archipel.data.stores.incoming import Incoming
from archipel.data.stores.spool import Spool
from archipel.spec import Blob, LinkError, SpecError
from archipel.spec.wire import CHUNK_BYTES

P = ParamSpec("P")
T = TypeVar("T")
STILL_SECONDS = 30.0
"""An upload that brings nothing for so long is ended; the site goes on from there when it can."""
_GATHER_BYTES = 2 * CHUNK_BYTES


class Intake:
    """Writes incoming blobs."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._writing: dict[str, tuple[asyncio.Lock, int]] = {}

    async def take(
        self,
        blob: Blob,
        offset: int,
        pieces: AsyncIterator[bytes],
        came: Callable[[int], None],
        wanted: Callable[[], bool],
    ) -> int:
        """Write `pieces` from `offset` on; return how many bytes of the blob are here then.

        `wanted` is asked first, off the event loop: where nobody waits for the blob, nothing of it is missing. What it
        raises is raised before a byte is read.
        `came` is called with the size of each piece. Where more or less is here than `offset`, nothing is read and
        the answer says from where to go on.

        Raises:
            DigestError: whole, and wrong.
            SpecError: a piece is larger than allowed.
            StorageFullError: the disk is full; what came stays.
        """
        async with self._turn(blob.digest):
            with ExitStack() as stack:
                incoming = await _settled(self._begin, stack, blob, offset, wanted)
                if isinstance(incoming, Incoming):
                    rest = await _write(incoming, _living(pieces), came)
                    return await _settled(self._end, stack.pop_all(), incoming, rest, blob)
            return incoming

    def _begin(self, stack: ExitStack, blob: Blob, offset: int, wanted: Callable[[], bool]) -> Incoming | int:
        """Open what is here of a blob; how much that is, where it is whole or ends elsewhere than at `offset`."""
        if not wanted():
            return blob.size_bytes
        here = self._spool.settle(blob)
        if self._spool.has(blob.digest) or here != offset:
            return here
        return stack.enter_context(self._spool.receive(blob))

    def _end(self, leaving: ExitStack, incoming: Incoming, rest: list[bytes], blob: Blob) -> int:
        """Write the last pieces, verify what is whole, and say how much is here."""
        with leaving:
            _write_all(incoming, rest)
        return self._spool.have(blob)

    @asynccontextmanager
    async def _turn(self, digest: str) -> AsyncIterator[None]:
        """Wait until nobody else writes this blob."""
        lock, users = self._writing.get(digest, (asyncio.Lock(), 0))
        self._writing[digest] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            _, users = self._writing.pop(digest)
            if users > 1:
                self._writing[digest] = (lock, users - 1)


async def _write(incoming: Incoming, pieces: AsyncIterator[bytes], came: Callable[[int], None]) -> list[bytes]:
    """Write what comes, some pieces a visit to a thread; return those that are left at the end."""
    gathered: list[bytes] = []
    size = 0
    async for piece in pieces:
        if len(piece) > CHUNK_BYTES:
            raise SpecError(f"a piece of {len(piece)} bytes", hint=f"pieces have at most {CHUNK_BYTES} bytes")
        came(len(piece))
        gathered.append(piece)
        size += len(piece)
        if size >= _GATHER_BYTES:
            await _settled(_write_all, incoming, gathered)
            gathered, size = [], 0
    return gathered


async def _settled(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do file work in a thread; a caller that is cancelled leaves only when the thread is done with the file."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _write_all(incoming: Incoming, pieces: list[bytes]) -> None:
    for piece in pieces:
        incoming.write(piece)


async def _living(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces; a LinkError where none comes for a long time."""
    waiting = aiter(pieces)
    while True:
        try:
            async with asyncio.timeout(STILL_SECONDS):
                piece = await anext(waiting)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise LinkError(f"no piece of the blob came for {STILL_SECONDS:.0f} s", hint="offer it again") from error
        yield piece
