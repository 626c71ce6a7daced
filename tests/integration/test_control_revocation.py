"""`archipel revoke`: a site is cut off at once, transfers included, and comes back by a new token only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from archipel.security import load_or_make_key, read_token, signing_request
from archipel.site.link.dial import dial
from archipel.site.link.protocol import PutStart
from archipel.spec import Blob, TrustError, decode, digest_of
from archipel.spec.views import SiteView
from archipel.spec.wire import Enrolment, Failure, Hello, Offer, Want
from unit.control.control_house import Home, at_home, living
from unit.control.control_plane import make_bundle, make_job


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with at_home(tmp_path / "house") as running:
        yield running


@pytest.mark.attack("former operator", "go on in a stream that is open when his site is revoked")
async def test_revoking_cuts_an_open_stream(home: Home) -> None:
    async with dial(home.address, home.credentials("coral")) as link:
        attendance = await link.attend(Hello(site="coral", agent="t"))
        await anext(aiter(attendance))
        await anext(aiter(attendance))  # the audit log's head
        async with home.client() as client:
            answer = await client.post("/v1/sites/coral/revoke")
        said = decode(answer.content, SiteView)
        assert (said.name, said.presence) == ("coral", "revoked")
        with pytest.raises(StopAsyncIteration):
            await anext(aiter(attendance))
        with pytest.raises(TrustError, match="revoked"):
            await anext(aiter(await link.attend(Hello(site="coral", agent="t"))))
    async with dial(home.address, home.credentials("coral")) as link:  # with a new token
        await anext(aiter(await link.attend(Hello(site="coral", agent="t"))))
        assert home.house.fleet.show("coral").presence == "here"


@pytest.mark.attack("former operator", "come back by a token made before")
async def test_a_revoked_site_is_not_let_back_by_a_token_made_before(home: Home, tmp_path: Path) -> None:
    house, office = home.house, home.house.office()
    key = load_or_make_key(tmp_path / "atoll.key")
    token = read_token(house.enrolments.invite("atoll", office.url(), "operator/t", office.random).token)
    enrolment = Enrolment(site="atoll", secret=token.secret, csr_pem=signing_request(key, "atoll"))
    house.enrolments.enrol(enrolment, home.address)
    house.enrolments.enrol(enrolment, home.address)  # an answer was lost
    assert house.enrolments.revoke("atoll", "operator/t") == 2
    with pytest.raises(TrustError, match="no token was issued"):
        house.enrolments.enrol(enrolment, home.address)
    with pytest.raises(TrustError, match="revoked"):
        house.enrolments.renew("atoll", enrolment.csr_pem, home.address)


@pytest.mark.attack("former operator", "finish a transfer after his site is revoked")
async def test_revoking_breaks_off_what_is_being_sent_and_fetched(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coral, *others = (home.site(name) for name in ("coral", "lagoon", "reef"))
    home.start(make_job(), make_bundle(tmp_path / "job"))

    def cut_off(site: str, now: float) -> None:
        if site == "coral":
            home.house.enrolments.revoke("coral", "operator/t")

    coral.silent = True  # it hears its tasks; the test works in its place
    async with living(coral, *others):
        await coral.until(lambda: bool(coral.asked))
        task = coral.asked[0]
        monkeypatch.setattr(home.house.attendances, "note_piece", cut_off)
        monkeypatch.setattr("archipel.control.api.sites.CHUNK_BYTES", 10)
        offer = Offer(run=task.run, blob=Blob(digest=digest_of(b"birds"), size_bytes=5))
        async with dial(home.address, coral.credentials) as link:
            with pytest.raises(TrustError, match="no longer holds"):
                await link.put(PutStart(offer=offer), iter([b"bir", b"ds"]))
        assert not home.house.spool.has(offer.blob.digest)
        async with dial(home.address, home.credentials("coral")) as link:
            with pytest.raises(TrustError, match="no longer holds"):
                _ = [piece async for piece in link.get(Want(digest=task.bundle.digest))]


async def test_nobody_can_be_revoked_who_never_joined(home: Home) -> None:
    async with home.client() as client:
        answer = await client.post("/v1/sites/nobody/revoke")
    assert (answer.status_code, decode(answer.content, Failure).error) == (404, "UnknownNameError")
