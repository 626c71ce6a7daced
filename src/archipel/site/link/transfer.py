"""Move blobs between the site's spool and control: resumed after a break, verified before use, hashed once.

Sending    a blob of one piece is sent without asking; a larger one is offered first, and goes on where control's
           copy ends
Fetching   goes on where the local copy ends; a blob whose bytes are not what its digest says is fetched once more
           from the start, then the DigestError stands

Both raise LinkError when control goes away; calling again goes on where they stopped. Disk flushes run in a thread,
so that the site keeps beating.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

from archipel.data.stores.spool import Spool
from archipel.site.link.dial import Link
from archipel.site.link.protocol import PutStart
from archipel.spec import Blob, DigestError, LinkError, failpoint
from archipel.spec.wire import CHUNK_BYTES, Offer, Want

_TRIES = 5
"""Put calls for one blob before the caller waits and begins anew."""
_MADE_AGAIN = "the site makes it again; if this repeats, check its disk"


async def send(link: Link, spool: Spool, run: str, blob: Blob) -> None:
    """Bring a blob of the spool to control.

    Raises:
        LinkError: control went away; send again.
        DigestError: the file cannot be read, is cut short, or control found other bytes than the digest says; twice.
        StateError: the blob is not in the spool.
    """
    spool.require(blob.digest)
    offer = Offer(run=run, blob=blob)
    small = blob.size_bytes <= CHUNK_BYTES
    have = 0 if small else (await link.offer(offer)).have_bytes
    digest_errors = 0
    for _ in range(_TRIES):
        pieces = _pieces(spool, blob, have)
        if have < blob.size_bytes or blob.size_bytes == 0:
            try:
                # Less than the size: control held other bytes than we thought, and says from where to go on.
                have = (await link.put(PutStart(offer=offer, offset=have), pieces)).have_bytes
            except DigestError:
                digest_errors += 1
                if digest_errors > 1:
                    raise
                have = 0
        if have >= blob.size_bytes:
            return
    raise LinkError(f"control holds {have} of {blob.size_bytes} bytes of {blob.digest}", hint="it is sent again")


def _pieces(spool: Spool, blob: Blob, offset: int) -> Iterator[bytes]:
    """Yield a blob's bytes from `offset` to its end, and no less."""
    try:
        for piece in spool.read(blob.digest, offset=offset, piece_bytes=CHUNK_BYTES):
            failpoint("site.send.before_piece")
            offset += len(piece)
            yield piece
    except OSError as error:
        raise DigestError(f"blob {blob.digest} cannot be read: {error}", hint=_MADE_AGAIN) from error
    if offset != blob.size_bytes:
        raise DigestError(f"blob {blob.digest} ends after {offset} of {blob.size_bytes} bytes", hint=_MADE_AGAIN)


async def fetch(link: Link, spool: Spool, blob: Blob) -> None:
    """Bring a blob of control into the spool, unless it is there.

    Raises:
        LinkError: control went away; fetch again.
        DigestError: what control sent is not what the digest says, twice.
        StateError: control does not have it.
        StorageFullError: the site's disk is full.
    """
    if spool.has(blob.digest):
        return
    try:
        await _receive(link, spool, blob)
    except DigestError:
        await _receive(link, spool, blob, restart=True)
    if not spool.has(blob.digest):
        raise LinkError(f"control sent {spool.have(blob)} of {blob.size_bytes} bytes of {blob.digest}")


async def _receive(link: Link, spool: Spool, blob: Blob, *, restart: bool = False) -> None:
    with ExitStack() as stack:
        incoming = await asyncio.to_thread(stack.enter_context, spool.receive(blob, restart=restart))
        async for piece in link.get(Want(digest=blob.digest, offset=incoming.size)):
            failpoint("site.fetch.before_piece")
            incoming.write(piece)
        await asyncio.to_thread(stack.pop_all().close)  # it verifies and flushes
    failpoint("site.fetch.after_blob")
