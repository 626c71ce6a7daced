"""The sites' door under abuse: identities, replays, stale and unusable answers, leases, disk full, on real TLS."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from archipel.control.services.rounds.driver import MOST_BLOBS
from archipel.security import Authority, load_or_make_key, signing_request, site_of
from archipel.security.sealing import CHUNK_BYTES
from archipel.site.link.dial import Credentials, Link, dial
from archipel.site.link.protocol import PutStart
from archipel.spec import (
    ArchipelError,
    Blob,
    DigestError,
    LinkError,
    Refusal,
    RoundTask,
    SpecError,
    StaleError,
    StateError,
    TrustError,
    Update,
    digest_of,
    encode,
    pack,
)
from archipel.spec.audit import LogGrowth
from archipel.spec.wire import Beat, Hello, Note, Offer, Want
from unit.control.control_house import Home, at_home, living
from unit.control.control_plane import make_bundle, make_job
from unit.control.control_sites import ScriptedSite, answer, described_part, sent

NAMES = ("coral", "lagoon", "reef")
SEALED_TOO = pytest.mark.parametrize("home", [None, "file:seal.key"], ids=["plain", "sealed"], indirect=True)


@pytest.fixture
async def home(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Home]:
    async with at_home(tmp_path, key=getattr(request, "param", None)) as served:
        yield served


def quick_job(**tables: Any) -> Any:
    return make_job(**{"deployment": {"serve": "none"}, **tables})


async def first_task(site: ScriptedSite) -> RoundTask:
    await site.until(lambda: bool(site.asked))
    return site.asked[0]


def held_back(site: ScriptedSite) -> ScriptedSite:
    """A site that hears its tasks and answers none."""

    def refuse(*_: Any) -> Any:
        raise LinkError("the test answers itself")

    site.answer = refuse
    return site


# ---- who is who -----------------------------------------------------------------------------------------------------


@pytest.mark.attack("hostile site", "speak for another site")
async def test_a_message_that_names_another_site_is_refused(home: Home) -> None:
    coral = home.credentials("coral")
    home.credentials("reef")
    async with dial(home.address, coral) as link:
        with pytest.raises(TrustError, match="coral may not speak for reef"):
            await anext(aiter(await link.attend(Hello(site="reef", agent="t"))))
        with pytest.raises(TrustError, match="coral may not speak for reef"):
            await link.submit(Update(run="r", round=0, site="reef", kind="check"))
        with pytest.raises(TrustError, match="coral may not speak for reef"):
            await link.submit(Refusal(run="r", round=0, site="reef", error="DataError", message="m"))


@dataclasses.dataclass(frozen=True)
class BadIdentity:
    name: str
    make: Callable[[Home, Path], Credentials]
    said: type[ArchipelError]


def _under(authority: Authority, home: Home, folder: Path, **how: Any) -> Credentials:
    key_path = folder / "bad.key"
    key = load_or_make_key(key_path)
    how = {"now": dt.datetime.now(dt.UTC), **how}
    pem = authority.certify_site("coral", signing_request(key, "coral"), **how)
    ca = home.house.authority.pem.encode()
    return Credentials(key_pem=key_path.read_bytes(), certificate_pem=pem.encode(), ca_pem=ca)


def _other_authority(home: Home, folder: Path) -> Credentials:
    return _under(Authority.open(folder / "other", dt.datetime.now(dt.UTC)), home, folder)


def _expired(home: Home, folder: Path) -> Credentials:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=3)
    return _under(home.house.authority, home, folder, now=past)


def _not_yet(home: Home, folder: Path) -> Credentials:
    return _under(home.house.authority, home, folder, now=dt.datetime.now(dt.UTC) + dt.timedelta(days=3))


def _unrecorded(home: Home, folder: Path) -> Credentials:
    return _under(home.house.authority, home, folder)


def _servers_own(home: Home, folder: Path) -> Credentials:
    state = home.house.settings.state / "tls"
    return Credentials(
        key_pem=(state / "server.key").read_bytes(),
        certificate_pem=(state / "server.pem").read_bytes(),
        ca_pem=home.house.authority.pem.encode(),
    )


def _revoked(home: Home, _: Path) -> Credentials:
    credentials = home.credentials("coral")
    home.house.enrolments.revoke("coral", "operator/t")
    return credentials


def _self_signed(home: Home, folder: Path) -> Credentials:
    key_path = folder / "self.key"
    key = load_or_make_key(key_path)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "coral")])
    from cryptography.hazmat.primitives import hashes

    now = dt.datetime.now(dt.UTC)
    pem = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("archipel://site/coral")]), critical=False
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    return Credentials(key_pem=key_path.read_bytes(), certificate_pem=pem, ca_pem=home.house.authority.pem.encode())


BAD_IDENTITIES = (
    BadIdentity("another authority's", _other_authority, LinkError),
    BadIdentity("expired", _expired, LinkError),
    BadIdentity("not yet valid", _not_yet, LinkError),
    BadIdentity("self-signed", _self_signed, LinkError),
    BadIdentity("never issued to the site", _unrecorded, TrustError),
    BadIdentity("the server's own", _servers_own, ArchipelError),
    BadIdentity("revoked", _revoked, TrustError),
)


@pytest.mark.parametrize("bad", BAD_IDENTITIES, ids=lambda bad: bad.name)
@pytest.mark.attack("network", "come in by a certificate that does not hold")
async def test_a_certificate_that_does_not_hold_opens_nothing(bad: BadIdentity, home: Home, tmp_path: Path) -> None:
    home.credentials("coral")
    async with dial(home.address, bad.make(home, tmp_path)) as link:
        with pytest.raises(bad.said):
            await link.offer(Offer(run="r", blob=Blob(digest=digest_of(b""), size_bytes=0)))


@pytest.mark.attack("network", "come in without a certificate")
async def test_no_certificate_at_all_opens_nothing(home: Home) -> None:
    import grpc
    import grpc.aio

    tls = grpc.ssl_channel_credentials(home.house.authority.pem.encode())
    async with grpc.aio.secure_channel(home.address, tls) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/archipel.Sites/Offer")(b"{}")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_holds_and_the_old_one_goes_on_until_it_ends(home: Home, tmp_path: Path) -> None:
    old = home.credentials("coral")
    async with dial(home.address, old) as link:
        key = load_or_make_key(tmp_path / "coral.key")
        got = await link.renew(signing_request(key, "anybody"))
    fresh = msgspec.structs.replace(old, certificate_pem=got.certificate_pem.encode())
    assert fresh != old
    assert site_of(got.certificate_pem) == "coral", "whatever name the request asks for"
    for credentials in (old, fresh):
        async with dial(home.address, credentials) as link:
            await anext(aiter(await link.attend(Hello(site="coral", agent="t"))))


# ---- streams --------------------------------------------------------------------------------------------------------


async def test_the_first_message_is_hello(home: Home) -> None:
    async with dial(home.address, home.credentials("coral")) as link:
        attendance = await link.attend(Beat())  # type: ignore[arg-type]
        with pytest.raises(SpecError, match="first message"):
            await anext(aiter(attendance))


async def test_a_second_stream_of_a_site_ends_the_first(home: Home) -> None:
    async with dial(home.address, home.credentials("coral")) as link:
        first = aiter(await link.attend(Hello(site="coral", agent="t")))
        await anext(first)
        second = aiter(await link.attend(Hello(site="coral", agent="t")))
        await anext(second)
        assert all([isinstance(message, LogGrowth) async for message in first])  # and then it ends
        assert home.house.attendances.presence("coral") == "here"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Note(what="site.disk", detail={"what": "x" * 20_000}), "too long"),
        (Note(what="model.registered"), "what"),
        (Note(what="site.failed\n"), "what"),
    ],
    ids=["long", "not about a site", "two lines"],
)
async def test_a_note_is_kept_under_the_sites_own_name_and_a_bad_one_is_refused(
    home: Home, bad: Note, why: str
) -> None:
    async with dial(home.address, home.credentials("coral")) as link:
        attendance = await link.attend(Hello(site="coral", agent="t"))
        stream = aiter(attendance)
        await anext(stream)
        assert isinstance(await anext(stream), LogGrowth)
        await attendance.send(Note(what="site.disk.low", level="warning", detail={"free_bytes": 7}))
        await attendance.send(bad)
        with pytest.raises(SpecError, match=why):
            await anext(stream)
    kept = [item.event for item in home.house.log.read(site="coral", level="warning").events]
    assert [(event.what, event.actor, event.detail) for event in kept] == [
        ("site.disk.low", "site/coral", {"free_bytes": 7})
    ]


async def test_a_silent_site_is_lost_when_its_lease_ends_and_back_at_its_next_word(home: Home) -> None:
    home.house.attendances.idle_seconds = 0.5
    async with dial(home.address, home.credentials("coral")) as link:
        attendance = await link.attend(Hello(site="coral", agent="t"))
        await anext(aiter(attendance))
        await _until(lambda: home.house.attendances.presence("coral") == "lost")
        await attendance.send(Beat())
        await _until(lambda: home.house.attendances.presence("coral") == "here")
    assert "site.lost" in [item.event.what for item in home.house.log.read().events]


# ---- answers --------------------------------------------------------------------------------------------------------


async def _begun(home: Home, tmp_path: Path, **tables: Any) -> tuple[str, list[ScriptedSite]]:
    sites = [home.site(name) for name in NAMES]
    return home.start(quick_job(**tables), make_bundle(tmp_path / "job")), sites


@pytest.mark.attack("hostile site", "count twice")
async def test_an_answer_counts_once_however_often_it_is_sent(home: Home, tmp_path: Path) -> None:
    run, sites = await _begun(home, tmp_path)
    async with living(*sites):
        await home.until(run, "finished")
    tasks = sites[0].asked
    async with dial(home.address, sites[0].credentials) as link:
        check, _ = answer(sites[0], tasks[0], {})
        receipts = [(await link.submit(check)).status for _ in range(100)]
        never = await link.submit(Update(run=run, round=99, site="coral", kind="train"))
        unknown = await link.submit(Update(run="nobodys", round=0, site="coral", kind="check"))
    assert receipts == ["duplicate"] * 100
    assert (never.status, unknown.status) == ("stale", "stale")


@pytest.mark.attack("hostile site", "count twice, at the same moment")
async def test_answers_of_two_copies_at_the_same_moment_count_once(home: Home, tmp_path: Path) -> None:
    run, [coral, *others] = await _begun(home, tmp_path)
    async with living(held_back(coral), *others):
        task = await first_task(coral)
        check, _ = answer(coral, task, {})
        async with dial(home.address, coral.credentials) as link:
            receipts = await asyncio.gather(*(link.submit(check) for _ in range(20)))
        assert sorted(receipt.status for receipt in receipts) == ["accepted"] + ["duplicate"] * 19
        coral.answer = answer
        await home.until(run, "finished")


@dataclasses.dataclass(frozen=True)
class BadUpdate:
    name: str
    change: Callable[[dict[str, np.ndarray]], tuple[bytes, dict[str, Any]]]
    reason: str


def _spoilt(value: float) -> Callable[[dict[str, np.ndarray]], tuple[bytes, dict[str, Any]]]:
    def change(arrays: dict[str, np.ndarray]) -> tuple[bytes, dict[str, Any]]:
        arrays["w"][3] = value
        return pack(arrays), arrays

    return change


BAD_UPDATES = (
    BadUpdate("NaN", _spoilt(float("nan")), "NaN or infinity"),
    BadUpdate("infinity", _spoilt(float("inf")), "NaN or infinity"),
    BadUpdate("not tensors", lambda arrays: (b"birds" * 10, arrays), "header"),
    BadUpdate("a header alone", lambda arrays: (pack(arrays)[:-50], arrays), "other tensors"),
    BadUpdate("other shapes than it says", lambda arrays: (pack({"w": arrays["w"][:-1]}), arrays), "other tensors"),
    BadUpdate("other shapes than the model", lambda _: (pack(_longer()), _longer()), "other shapes"),
)


def _longer() -> dict[str, np.ndarray]:
    return {"w": np.zeros(77, np.float32)}


@pytest.mark.parametrize("bad", BAD_UPDATES, ids=lambda bad: bad.name)
@pytest.mark.attack(
    "hostile site",
    "spoil the model by an unusable update",
    result="survived",
    open='Yes with absent = "wait", by name; with a quorum, no.',
)
async def test_an_unusable_update_fails_the_run_by_name_and_after_mending_it_goes_on(
    bad: BadUpdate, home: Home, tmp_path: Path
) -> None:
    run, [coral, *others] = await _begun(home, tmp_path)

    def spoil(site: ScriptedSite, task: RoundTask, blobs: dict[str, bytes]) -> Any:
        update, parts = answer(site, task, blobs)
        if task.kind != "train" or task.step != 2:
            return update, parts
        data, arrays = bad.change({"w": np.ones(50, np.float32)})
        part = msgspec.structs.replace(
            described_part(arrays, pack(arrays), task), blob=Blob(digest=digest_of(data), size_bytes=len(data))
        )
        return msgspec.structs.replace(update, parts={"delta": part}), {"delta": data}

    coral.answer = spoil
    async with living(coral, *others):
        await home.until(run, "failed")
        view = home.house.standing.show(run)
        assert "coral" in view.message
        assert bad.reason in view.message or "NonFinite" in view.message or "Shape" in view.message
        assert view.hint
        coral.answer = answer
        home.house.runs.resume(run, "operator/t")
        await home.until(run, "finished")
    assert home.house.registry.list("birds").models[0].version == 1


async def test_a_refusal_pauses_the_run_by_name_and_resuming_asks_again(home: Home, tmp_path: Path) -> None:
    run, [coral, *others] = await _begun(home, tmp_path)
    refused = asyncio.Event()

    def refuse(site: ScriptedSite, task: RoundTask, blobs: dict[str, bytes]) -> Any:
        if task.kind == "train" and not refused.is_set():
            refused.set()
            said = {"error": "TaskError", "message": "task.py:7 raised", "hint": "mend line 7"}
            return Refusal(run=task.run, round=task.round, site=site.name, **said), {}
        return answer(site, task, blobs)

    coral.answer = refuse
    async with living(coral, *others):
        await home.until(run, "failed")
        view = home.house.standing.show(run)
        assert "coral refused: TaskError: task.py:7 raised" in view.message
        assert view.hint == "mend line 7"
        home.house.runs.resume(run, "operator/t")
        await home.until(run, "finished")


# ---- blobs ----------------------------------------------------------------------------------------------------------


@pytest.mark.attack("hostile site", "send other bytes than announced")
async def test_bytes_that_are_not_what_their_digest_says_are_refused(home: Home, tmp_path: Path) -> None:
    _, [coral, *others] = await _begun(home, tmp_path)
    async with living(held_back(coral), *others):
        task = await first_task(coral)
        offer = Offer(run=task.run, blob=Blob(digest=digest_of(b"birds"), size_bytes=5))
        async with dial(home.address, coral.credentials) as link:
            with pytest.raises(DigestError):
                await link.put(PutStart(offer=offer), iter([b"fish!"]))
            with pytest.raises(DigestError):
                await link.put(PutStart(offer=offer), iter([b"birds and more"]))
            assert (await link.offer(offer)).have_bytes == 0
            assert (await link.put(PutStart(offer=offer), iter([b"bir", b"ds"]))).have_bytes == 5


@SEALED_TOO
async def test_a_blob_cut_short_on_controls_disk_is_named_to_the_site_and_not_sent_as_whole(
    home: Home, tmp_path: Path
) -> None:
    _, [coral, *others] = await _begun(home, tmp_path)
    async with living(*(held_back(site) for site in (coral, *others))):
        bundle = (await first_task(coral)).bundle
        os.truncate(home.house.spool.require(bundle.digest), bundle.size_bytes - 1)
        async with dial(home.address, coral.credentials) as link:
            with pytest.raises(DigestError, match=f"{bundle.digest} is cut short"):
                _ = [piece async for piece in link.get(Want(digest=bundle.digest))]


@SEALED_TOO
async def test_an_upload_goes_on_where_it_broke(home: Home, tmp_path: Path) -> None:
    _, [coral, *others] = await _begun(home, tmp_path)
    data = bytes(range(256)) * 20_000
    async with living(held_back(coral), *others):
        task = await first_task(coral)
        offer = Offer(run=task.run, blob=Blob(digest=digest_of(data), size_bytes=len(data)))
        whole = 3_000_000 if home.house.spool.sealing is None else 3_000_000 // CHUNK_BYTES * CHUNK_BYTES

        async def breaking() -> AsyncIterator[bytes]:
            yield encode(PutStart(offer=offer))
            for start in range(0, 3_000_000, 1_000_000):
                yield data[start : start + 1_000_000]
            await asyncio.Event().wait()

        async with dial(home.address, coral.credentials) as link:
            call = link._put(breaking())
            await _until(lambda: home.house.spool.have(offer.blob) == whole)
            call.cancel()
        async with dial(home.address, coral.credentials) as link:
            wrong = await link.put(PutStart(offer=offer, offset=5), iter([data[5:1000]]))
            assert wrong.have_bytes == whole
            assert (await link.offer(offer)).have_bytes == whole
            await sent(link, task.run, data, piece_bytes=500_000)
        assert home.house.spool.view(offer.blob.digest) == data


@pytest.mark.parametrize("offered", [True, False])
async def test_bytes_that_a_killed_control_had_not_looked_at_yet_count_when_they_are_sent_again(
    home: Home, tmp_path: Path, *, offered: bool
) -> None:
    _, [coral, *others] = await _begun(home, tmp_path)
    data = b"all of it"
    blob = Blob(digest=digest_of(data), size_bytes=len(data))
    async with living(held_back(coral), *others):
        offer = Offer(run=(await first_task(coral)).run, blob=blob)
        with suppress(InterruptedError), home.house.spool.receive(blob) as incoming:
            incoming.write(data)
            raise InterruptedError
        async with dial(home.address, coral.credentials) as link:
            answer = await (link.offer(offer) if offered else link.put(PutStart(offer=offer), iter([data])))
        assert answer.have_bytes == len(data)
        assert home.house.spool.view(blob.digest) == data


async def test_two_sites_may_send_the_same_bytes_at_once(home: Home, tmp_path: Path) -> None:
    _, sites = await _begun(home, tmp_path)
    data = np.random.default_rng(1).bytes(3_000_000)
    async with living(*(held_back(site) for site in sites)):
        for site in sites:
            await first_task(site)

        async def send(site: ScriptedSite) -> None:
            async with dial(home.address, site.credentials) as link:
                await sent(link, site.asked[0].run, data, piece_bytes=100_000)

        await asyncio.gather(*(send(site) for site in sites))
        assert home.house.spool.view(digest_of(data)) == data


@pytest.mark.attack(
    "hostile site",
    "fetch another site's update",
    open="It may subtract itself from a total; in a plain run of two, that is the other site.",
)
async def test_a_site_gets_no_blob_that_its_work_does_not_need(home: Home, tmp_path: Path) -> None:
    secret = home.house.spool.put(b"another site's model")
    _, [coral, *others] = await _begun(home, tmp_path)
    async with living(held_back(coral), *others):
        task = await first_task(coral)
        async with dial(home.address, coral.credentials) as link:
            with pytest.raises(StaleError, match="no work that needs"):
                await anext(link.get(Want(digest=secret.digest)))
            got = [piece async for piece in link.get(Want(digest=task.bundle.digest, offset=5))]
            assert sum(map(len, got)) == task.bundle.size_bytes - 5
            none = [piece async for piece in link.get(Want(digest=task.bundle.digest, offset=10**9))]
            assert none == []


@pytest.mark.attack("hostile site", "send without end")
async def test_a_site_may_send_so_much_for_a_task_and_no_byte_more(tmp_path: Path) -> None:
    async with at_home(tmp_path, max_answer_bytes=1000) as home:
        _, [coral, *others] = await _begun(home, tmp_path)
        async with living(held_back(coral), *others):
            task = await first_task(coral)
            first, second, large = (os.urandom(size) for size in (600, 401, 1001))

            async def put(link: Link, data: bytes) -> None:
                blob = Blob(digest=digest_of(data), size_bytes=len(data))
                await link.put(PutStart(offer=Offer(run=task.run, blob=blob)), iter([data]))

            async with dial(home.address, coral.credentials) as link:
                for data in (large, first, second):
                    if data is first:
                        await put(link, data)
                        continue
                    with pytest.raises(SpecError, match="too large"):
                        await put(link, data)
                for number in range(MOST_BLOBS - 1):
                    await put(link, bytes([number]))
                with pytest.raises(SpecError, match="one too many"):
                    await put(link, b"")
            assert sum(home.house.spool.has(digest_of(data)) for data in (first, second, large)) == 1


async def test_what_a_site_began_to_send_is_gone_with_the_round(home: Home, tmp_path: Path) -> None:
    _, [coral, *others] = await _begun(home, tmp_path)
    junk, cut = os.urandom(1000), os.urandom(1000)
    async with living(held_back(coral), *others):
        task = await first_task(coral)
        async with dial(home.address, coral.credentials) as link:
            for data, sent_bytes in ((junk, 1000), (cut, 500)):
                offer = Offer(run=task.run, blob=Blob(digest=digest_of(data), size_bytes=len(data)))
                with suppress(LinkError, StaleError):
                    await link.put(PutStart(offer=offer), iter([data[:sent_bytes]]))
        assert home.house.spool.has(digest_of(junk))
        assert len(list((home.house.spool.folder / "partial").iterdir())) == 1
        coral.answer = answer
        await home.until(task.run, "finished")
    assert not home.house.spool.has(digest_of(junk))
    assert list((home.house.spool.folder / "partial").iterdir()) == []


async def test_an_update_whose_bytes_never_came_is_not_counted(home: Home, tmp_path: Path) -> None:
    run, [coral, *others] = await _begun(home, tmp_path)

    def forget(site: ScriptedSite, task: RoundTask, blobs: dict[str, bytes]) -> Any:
        update, parts = answer(site, task, blobs)
        return update, {} if task.kind == "train" and not site.errors else parts

    coral.answer = forget
    async with living(coral, *others):
        await home.until(run, "finished")
    assert any(isinstance(error, StateError) and "not here" in error.message for error in coral.errors)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)
