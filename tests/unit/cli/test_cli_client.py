"""The client speaks the control plane's REST API as it is written in spec.views, and raises its errors as its own."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from msgspec import structs

from archipel.cli.client import Client
from archipel.spec import DataError, Event, LinkError, SpecError, StateError, encode
from archipel.spec.views import EventsPage, LoggedEvent, Operator, Presence, SitesPage, SiteView
from archipel.spec.wire import Failure

OPERATOR = Operator(url="https://control:7400", ca_pem="", token="secret")
Answer = Callable[[httpx.Request], httpx.Response]


def client_of(answer: Answer) -> Client:
    return Client(OPERATOR, httpx.MockTransport(answer))


def test_every_request_carries_the_operators_token() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=encode(SitesPage(sites=())))

    with client_of(answer) as client:
        assert client.sites() == ()
    assert seen[0].headers["Authorization"] == "Bearer secret"
    assert str(seen[0].url) == "https://control:7400/v1/sites"


@pytest.mark.parametrize("address", ["http://control:7400", "HTTP://control:7400", "control:7400", "//control", ""])
def test_the_token_goes_to_no_address_that_is_not_https(address: str) -> None:
    seen: list[httpx.Request] = []
    transport = httpx.MockTransport(lambda request: seen.append(request) or httpx.Response(200))
    for operator in (structs.replace(OPERATOR, url=address), structs.replace(OPERATOR, local=address or "http://")):
        with pytest.raises(SpecError, match="not https") as caught:
            Client(operator, transport).sites()
        assert "https://HOST:PORT" in caught.value.hint
    assert seen == []


def test_a_failure_of_control_is_raised_as_the_same_class_with_its_hint() -> None:
    failure = Failure(error="DataError", message="no column", hint="name it")
    with (
        client_of(lambda _: httpx.Response(422, content=encode(failure))) as client,
        pytest.raises(DataError) as caught,
    ):
        client.runs()
    assert (caught.value.message, caught.value.hint) == ("no column", "name it")


def test_an_error_class_this_version_does_not_know_is_still_an_error() -> None:
    failure = Failure(error="Popen", message="new", hint="")
    with (
        client_of(lambda _: httpx.Response(500, content=encode(failure))) as client,
        pytest.raises(Exception, match="new"),
    ):
        client.runs()


def test_an_answer_that_is_no_failure_names_its_status() -> None:
    with client_of(lambda _: httpx.Response(502, text="bad gateway")) as client, pytest.raises(LinkError, match="502"):
        client.runs()


def test_a_control_plane_that_is_away_is_a_link_error() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with client_of(refuse) as client, pytest.raises(LinkError, match="https://control:7400"):
        client.runs()


def test_an_answer_with_an_unknown_field_is_refused() -> None:
    body = json.dumps({"sites": [], "surprise": 1}).encode()
    with client_of(lambda _: httpx.Response(200, content=body)) as client, pytest.raises(SpecError, match="surprise"):
        client.sites()


def test_events_are_read_page_by_page_to_the_end() -> None:
    logged = [LoggedEvent(id=n, event=Event(at=float(n), what="run.started", actor="control")) for n in range(1, 6)]

    def answer(request: httpx.Request) -> httpx.Response:
        after = int(request.url.params["after"])
        page = tuple(item for item in logged if item.id > after)[:2]
        return httpx.Response(200, content=encode(EventsPage(events=page)))

    with client_of(answer) as client:
        assert [number for number, _ in client.all_events(after=1)] == [2, 3, 4, 5]


def test_progress_asks_for_news_only_when_told_what_is_old() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.query.decode())
        failure = Failure(error="StateError", message="x", hint="")
        return httpx.Response(409, content=encode(failure))

    with client_of(answer) as client:
        for after in (None, 7):
            with pytest.raises(StateError):
                client.progress("r", after)
    assert seen == ["", "after=7"]


@pytest.mark.parametrize("presence", ["here", "lost", "away"])
def test_sites_come_back_as_values(presence: Presence) -> None:
    site = SiteView(name="a", presence=presence, joined_at=1.0)
    with client_of(lambda _: httpx.Response(200, content=encode(SitesPage(sites=(site,))))) as client:
        assert client.sites() == (site,)
