"""Blobs between site and control over real TLS: resumed, verified, hashed once, refused when wrong."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from archipel.data.stores.spool import Spool
from archipel.security import site_of
from archipel.site.link.dial import Link, dial
from archipel.site.link.protocol import PutStart
from archipel.site.link.transfer import fetch, send
from archipel.spec import (
    Blob,
    DigestError,
    LinkError,
    Refusal,
    SpecError,
    StateError,
    StorageFullError,
    TrustError,
    digest_of,
)
from archipel.spec.wire import CHUNK_BYTES, Hello, Offer, Welcome
from unit.site.site_fakes import PATIENCE_SECONDS, SITE, FakeControl, utc_now

BIG = bytes(range(256)) * (5 * CHUNK_BYTES // 256) + b"tail"
LONG = BIG * 6
"""Much more than may be under way on a stream."""
OFFER = Offer(run="r", blob=Blob(digest=digest_of(BIG), size_bytes=len(BIG)))
REFUSAL = Refusal(run="r", round=0, site=SITE, error="DataError", message="m")


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[FakeControl]:
    async with FakeControl(tmp_path / "control") as running:
        yield running


@pytest.fixture
async def link(control: FakeControl, tmp_path: Path) -> AsyncIterator[Link]:
    place = control.enrol(tmp_path / "site", {})
    async with dial(control.address, place.credentials()) as opened:
        yield opened


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "site" / "spool")


async def test_a_small_blob_is_sent_without_an_offer(control: FakeControl, link: Link, spool: Spool) -> None:
    blob = spool.put(b"small")
    await send(link, spool, "run-1", blob)
    assert control.spool.require(blob.digest).read_bytes() == b"small"
    assert control.offers == 0


async def test_an_empty_blob_travels_both_ways(control: FakeControl, link: Link, spool: Spool) -> None:
    blob = spool.put(b"")
    await send(link, spool, "run-1", blob)
    assert control.spool.has(blob.digest)
    spool.drop(blob.digest)
    await fetch(link, spool, blob)
    assert spool.has(blob.digest)


async def test_a_blob_that_is_there_is_not_sent_again(control: FakeControl, link: Link, spool: Spool) -> None:
    blob = spool.put(BIG)
    control.spool.put(BIG)
    await send(link, spool, "run-1", blob)
    assert control.received_bytes == 0


async def test_a_broken_upload_goes_on_from_the_last_byte_control_holds(
    control: FakeControl, link: Link, spool: Spool
) -> None:
    blob = spool.put(BIG)
    control.cut_put_after = 2 * CHUNK_BYTES
    with pytest.raises(LinkError):
        await send(link, spool, "run-1", blob)
    await send(link, spool, "run-1", blob)
    assert control.spool.require(blob.digest).read_bytes() == BIG
    assert control.received_bytes == len(BIG)


async def test_a_broken_download_goes_on_from_the_last_byte_here(
    control: FakeControl, link: Link, spool: Spool
) -> None:
    blob = control.spool.put(BIG)
    control.cut_get_after = 3 * CHUNK_BYTES
    with pytest.raises(LinkError):
        await fetch(link, spool, blob)
    assert spool.have(blob) > 0
    await fetch(link, spool, blob)
    assert spool.require(blob.digest).read_bytes() == BIG
    assert control.sent_bytes <= len(BIG) + 2 * CHUNK_BYTES


async def test_wrong_bytes_are_fetched_once_more(control: FakeControl, link: Link, spool: Spool) -> None:
    blob = control.spool.put(BIG)
    control.corrupt_gets = 1
    await fetch(link, spool, blob)
    assert spool.require(blob.digest).read_bytes() == BIG


async def test_bytes_that_stay_wrong_are_refused_by_digest_and_dropped(
    control: FakeControl, link: Link, spool: Spool
) -> None:
    blob = control.spool.put(BIG)
    control.corrupt_gets = 2
    with pytest.raises(DigestError, match=blob.digest):
        await fetch(link, spool, blob)
    assert spool.have(blob) == 0


async def test_a_blob_damaged_at_the_site_is_refused_by_control(control: FakeControl, link: Link, spool: Spool) -> None:
    blob = spool.put(BIG)
    spool.path(blob.digest).write_bytes(b"x" + BIG[1:])
    with pytest.raises(DigestError, match=blob.digest):
        await send(link, spool, "run-1", blob)
    assert not control.spool.has(blob.digest)


async def test_a_blob_that_goes_short_while_it_is_sent_is_a_digest_error_that_names_it(
    control: FakeControl, link: Link, spool: Spool
) -> None:
    blob = spool.put(LONG)

    async def cut(_: Blob) -> None:
        os.truncate(spool.path(blob.digest), CHUNK_BYTES)

    control.at_put = cut
    with pytest.raises(DigestError, match=rf"{blob.digest} ends after \d+ of {len(LONG)} bytes"):
        await send(link, spool, "run-1", blob)
    assert control.received_bytes < len(LONG)
    assert not control.spool.has(blob.digest)


async def test_a_disk_that_cannot_be_read_while_sending_is_a_digest_error_that_names_the_blob(
    control: FakeControl, link: Link, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = spool.put(BIG)

    def read(digest: str, offset: int, piece_bytes: int) -> Iterator[bytes]:
        yield BIG[offset : offset + piece_bytes]
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(spool, "read", read)
    with pytest.raises(DigestError, match=f"{blob.digest} cannot be read.*Input/output error"):
        await send(link, spool, "run-1", blob)
    assert control.received_bytes < len(BIG)


async def test_an_error_of_the_pieces_is_raised_as_it_is_and_ends_the_call(control: FakeControl, link: Link) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_the_end(_: Blob) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    def pieces() -> Iterator[bytes]:
        while not began.is_set():
            yield b"x"
        raise StorageFullError("mine", hint="h")

    control.at_put = wait_for_the_end
    with pytest.raises(StorageFullError, match="mine"):
        await link.put(PutStart(offer=OFFER), pieces())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await ended.wait()


async def test_a_cancelled_upload_stays_a_cancellation(control: FakeControl, link: Link, spool: Spool) -> None:
    blob, held = spool.put(LONG), asyncio.Event()

    async def hold(_: Blob) -> None:
        held.set()
        await asyncio.Event().wait()

    control.at_put = hold
    sending = asyncio.create_task(send(link, spool, "run-1", blob))
    await held.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert sending.cancelled()


@pytest.mark.parametrize("what", ["put", "submit"])
async def test_closing_the_channel_under_a_call_is_a_broken_link_and_no_cancellation(
    control: FakeControl, tmp_path: Path, spool: Spool, what: str
) -> None:
    place, held = control.enrol(tmp_path / "other", {}), asyncio.Event()

    async def hold(*_: object) -> None:
        held.set()
        await asyncio.Event().wait()

    control.at_put, control.at_submit = hold, hold
    async with dial(control.address, place.credentials()) as link:
        calls = {"put": lambda: send(link, spool, "run-1", spool.put(BIG)), "submit": lambda: link.submit(REFUSAL)}
        calling = asyncio.create_task(calls[what]())
        await held.wait()
    with pytest.raises(LinkError, match="channel was closed"):
        await calling


@pytest.mark.parametrize("what", ["put", "submit", "get"])
async def test_closing_a_channel_that_has_not_connected_yet_ends_its_calls(
    control: FakeControl, tmp_path: Path, spool: Spool, what: str
) -> None:
    place = control.enrol(tmp_path / "other", {})
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # it answers no handshake
        async with dial(f"127.0.0.1:{deaf.getsockname()[1]}", place.credentials()) as link:
            calls = {
                "put": lambda: send(link, spool, "run-1", spool.put(b"small")),
                "submit": lambda: link.submit(REFUSAL),
                "get": lambda: fetch(link, spool, OFFER.blob),
            }
            calling = asyncio.create_task(calls[what]())
            accepted, _ = await asyncio.to_thread(deaf.accept)  # so the call is under way
        with accepted, pytest.raises(LinkError, match="channel was closed"):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await calling


async def test_an_upload_control_answers_before_its_end_is_not_an_error(
    control: FakeControl, link: Link, spool: Spool
) -> None:
    blob = spool.put(LONG)

    async def come_from_elsewhere(_: Blob) -> None:
        control.spool.put(LONG)

    control.at_put = come_from_elsewhere
    await send(link, spool, "run-1", blob)
    assert control.received_bytes == 0


async def test_a_blob_nobody_has_is_an_error_that_names_it(link: Link, spool: Spool) -> None:
    blob = Blob(digest=digest_of(b"never"), size_bytes=5)
    with pytest.raises(StateError, match=blob.digest):
        await fetch(link, spool, blob)
    with pytest.raises(StateError, match=blob.digest):
        await send(link, spool, "run-1", blob)


async def test_an_error_crosses_as_the_same_class_with_its_hint(control: FakeControl, link: Link) -> None:
    control.refuse_submit = lambda _: SpecError("nö", hint="try 再")
    with pytest.raises(SpecError, match="nö") as caught:
        await link.submit(REFUSAL)
    assert caught.value.hint == "try 再"


async def test_a_very_long_error_still_crosses(control: FakeControl, link: Link) -> None:
    control.refuse_submit = lambda _: StateError("é" * 100_000, hint="h" * 100_000)
    with pytest.raises(StateError, match="éé"):
        await link.submit(REFUSAL)


async def test_control_knows_the_caller_by_its_certificate(control: FakeControl, link: Link) -> None:
    attendance = await link.attend(Hello(site=SITE, agent="test"))
    assert isinstance(await anext(attendance), Welcome)
    assert control.hellos[0].site == SITE
    attendance.close()


async def test_a_start_beyond_what_is_there_is_answered_with_what_is(control: FakeControl, link: Link) -> None:
    with pytest.raises(StateError, match="0 bytes are here"):
        await link.put(PutStart(offer=OFFER, offset=7), iter([b"x"]))


async def test_nobody_there_is_a_link_error(control: FakeControl, tmp_path: Path) -> None:
    place = control.enrol(tmp_path / "other", {})
    async with dial("127.0.0.1:9", place.credentials()) as link:
        with pytest.raises(LinkError, match="cannot be reached"):
            await link.offer(Offer(run="r", blob=Blob(digest=digest_of(b""), size_bytes=0)))


async def test_a_control_plane_of_another_ca_is_not_trusted(control: FakeControl, tmp_path: Path) -> None:
    stranger = FakeControl(tmp_path / "stranger")
    stranger.address = control.address
    place = stranger.enrol(tmp_path / "other", {})
    async with dial(control.address, place.credentials()) as link:
        with pytest.raises(TrustError, match="not trusted") as caught:
            await link.renew("")
        assert "join again" in caught.value.hint


@pytest.mark.parametrize("age", [dt.timedelta(days=3), -dt.timedelta(days=3)], ids=["expired", "not yet valid"])
async def test_a_certificate_outside_its_time_is_rejected_by_tls(
    control: FakeControl, tmp_path: Path, age: dt.timedelta
) -> None:
    place = control.enrol(tmp_path / "other", {}, now=utc_now() - age)
    assert site_of(place.credentials().certificate_pem) == SITE
    async with dial(control.address, place.credentials()) as link:
        with pytest.raises((LinkError, TrustError)):
            await link.renew("")
    assert control.renewals == 0
