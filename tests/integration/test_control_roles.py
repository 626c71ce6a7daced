"""Every role at every address of the people's door, over real HTTPS, against a table written by hand."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any, get_args

import httpx
import pytest
import pytest_asyncio
from litestar import Litestar, get
from litestar.datastructures import State

from archipel.control.api.guard import guard, needs, needs_of
from archipel.control.api.people import build
from archipel.control.api.refusals import answer_failure
from archipel.security.access import ROLES, TABLE, Right, cell, may, require
from archipel.spec import ArchipelError, TrustError, decode, encode
from archipel.spec.people import NewPerson, PasswordLogin, Person
from archipel.spec.wire import Failure
from unit.control.control_house import Home, at_home

pytestmark = pytest.mark.asyncio(loop_scope="module")

# +: may; -: may not; a data owner's "a": for its own site, which is called "a".
EXPECTED = """
                                                 viewer scientist operator data-owner auditor admin stranger
GET  /healthz                                      +        +         +         +        +      +       +
GET  /metrics                                      +        +         +         +        +      +       +
GET  /v1/authority                                 +        +         +         +        +      +       +
POST /v1/enrolments                                +        +         +         +        +      +       +
POST /v1/login                                     +        +         +         +        +      +       +
GET  /v1/login/issuer                              +        +         +         +        +      +       +
POST /v1/login/issuer                              +        +         +         +        +      +       +
GET  /v1/login                                     +        +         +         +        +      +       -
POST /v1/logout                                    +        +         +         +        +      +       -
POST /v1/password                                  +        +         +         +        +      +       -
GET  /v1/people                                    -        -         -         -        +      +       -
POST /v1/people                                    -        -         -         -        -      +       -
POST /v1/people/{person}/role                      -        -         -         -        -      +       -
POST /v1/people/{person}/remove                    -        -         -         -        -      +       -
POST /v1/invitations                               -        -         +         -        -      +       -
GET  /v1/sites                                     +        +         +         +        +      +       -
GET  /v1/sites/{name}                              +        +         +         +        +      +       -
GET  /v1/sites/{name}/inventory                    +        +         +         +        +      +       -
GET  /v1/inventories                               +        +         +         +        +      +       -
POST /v1/sites/{name}/revoke                       -        -         +         a        -      +       -
POST /v1/bundles                                   -        +         -         -        -      +       -
POST /v1/plans                                     -        +         -         -        -      +       -
POST /v1/runs                                      -        +         -         -        -      +       -
GET  /v1/runs                                      +        +         +         +        +      +       -
GET  /v1/runs/{run}                                +        +         +         +        +      +       -
GET  /v1/runs/{run}/progress                       +        +         +         +        +      +       -
GET  /v1/runs/{run}/report                         -        +         +         +        +      +       -
POST /v1/runs/{run}/stop                           -        +         +         -        -      +       -
POST /v1/runs/{run}/resume                         -        +         +         -        -      +       -
GET  /v1/models                                    +        +         +         +        +      +       -
GET  /v1/models/{name}                             +        +         +         +        +      +       -
GET  /v1/models/{name}/{version}                   +        +         +         +        +      +       -
GET  /v1/models/{name}/{version}/weights           -        +         -         -        -      +       -
GET  /v1/models/{name}/{version}/onnx              -        +         -         -        -      +       -
GET  /v1/events                                    -        +         +         +        +      +       -
GET  /v1/audit/head                                -        -         +         +        +      +       -
GET  /v1/audit/growth                              -        -         +         +        +      +       -
GET  /v1/audit/entries/{number}                    -        -         +         +        +      +       -
"""
WHO, *LINES = [line.split() for line in EXPECTED.strip().splitlines()]
CELLS = [(who, method, path, mark) for method, path, *marks in LINES for who, mark in zip(WHO, marks, strict=True)]


class Town:
    """A served house, one connection to it, and a log-in of each role."""

    def __init__(self, home: Home, client: httpx.AsyncClient) -> None:
        self.house = home.house
        self.owner = home.operator.token
        self.client = client
        self._tokens: dict[str, str] = {"stranger": "f" * 64}

    def token(self, role: str) -> str:
        if role not in self._tokens:
            sites = ("a",) if role == "data-owner" else ()
            new = NewPerson(name=f"some-{role}", role=role, sites=sites, password="correct horse staple")  # type: ignore[arg-type]
            self.house.people.add(new, "person/admin")
            self._tokens[role] = self.another(role, sites)
        return self._tokens[role]

    def another(self, role: str, sites: tuple[str, ...] = ()) -> str:
        person = Person(name=f"some-{role}", role=role, sites=sites)  # type: ignore[arg-type]
        return self.house.logins.begin(person, "127.0.0.1", "test", self.house.office().random).token

    async def ask(self, role: str, method: str, path: str, name: str = "a") -> httpx.Response:
        url = re.sub(r"{(version|number)}", "1", re.sub(r"{(run|person)}", "nobody", path)).replace("{name}", name)
        token = self.token(role)
        if path == "/v1/logout" and role != "stranger":
            token = self.another(role)
        return await self.client.request(method, url, headers={"Authorization": f"Bearer {token}"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async with at_home(tmp_path_factory.mktemp("house")) as home, home.client() as client:
        yield Town(home, client)


@pytest.mark.attack("insider", "do what another role may")
@pytest.mark.parametrize(("who", "method", "path", "mark"), CELLS, ids=str)
async def test_a_cell_of_the_table(  # noqa: PLR0917 - fixtures and a cell
    town: Town, who: str, method: str, path: str, mark: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("tries", int(mark in {"-", "a"}))
    answer = await town.ask(who, method, path)
    if mark == "-":
        assert answer.status_code == (401 if who == "stranger" else 403), answer.text
        failure = decode(answer.content, Failure)
        assert failure.error == "TrustError"
        assert failure.hint
        assert who == "stranger" or f"some-{who} is {who} here and may not" in failure.message
    else:
        assert answer.status_code not in {401, 429, 500}, answer.text
        assert answer.status_code != 403 or "may not" not in answer.text, answer.text
    if mark == "a":
        other = await town.ask(who, method, path, name="b")
        assert other.status_code == 403


async def test_the_table_by_hand_has_every_address_there_is_and_no_other() -> None:
    real = needs_of(build(None, 1000))  # type: ignore[arg-type]
    own = {(method, re.sub(r":\w+}", "}", path)) for method, path in real if method != "HEAD"}
    pages = {key for key in own if key[1].startswith("/schema")}
    assert own - pages == {(method, path) for method, path, *_ in LINES}
    assert {real[method, path] for method, path in real if path.startswith("/schema")} == {"open"}


def undeclared() -> Any:
    @get("/forgotten", sync_to_thread=False)
    def forgotten() -> str:
        return "secret"

    return forgotten


async def test_an_address_that_declares_nothing_stops_the_start() -> None:
    with pytest.raises(ValueError, match="GET /forgotten needs None, which is no right"):
        needs_of(Litestar([undeclared()], openapi_config=None))


async def test_an_address_that_declares_a_right_of_no_line_stops_the_start() -> None:
    misspelt = get("/x", opt=needs("site.read"), sync_to_thread=False)(lambda: None)  # type: ignore[arg-type]
    misspelt.fn.__annotations__["return"] = None
    with pytest.raises(ValueError, match=r"GET /x needs 'site.read', which is no right"):
        needs_of(Litestar([misspelt], openapi_config=None))


@pytest.mark.attack("insider", "use an address that declares no right")
async def test_an_address_that_declares_nothing_is_refused_even_to_an_admin(town: Town) -> None:
    app = Litestar(
        [undeclared()],
        guards=[guard],
        state=State({"office": town.house.office()}),
        exception_handlers={ArchipelError: answer_failure},
        openapi_config=None,
    )
    headers = {"Authorization": f"Bearer {town.owner}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x", headers=headers) as client:
        answer = await client.get("/forgotten")
    assert (answer.status_code, decode(answer.content, Failure).error) == (403, "TrustError")
    assert "secret" not in answer.text


async def test_options_is_no_way_around(town: Town) -> None:
    assert (await town.ask("stranger", "OPTIONS", "/v1/people")).status_code == 401


async def test_every_line_of_rights_has_a_word_for_each_role_and_only_admins_have_all() -> None:
    assert set(TABLE) == set(get_args(Right))
    for right, rule in TABLE.items():
        words = rule.cells.split()
        assert len(words) == len(ROLES), right
        assert set(words) <= {"yes", "own", "no"}, right
    everything = [role for role in ROLES if all(cell(role, right) == "yes" for right in TABLE)]
    assert everything == ["admin"]


async def test_what_has_no_right_is_nobodys() -> None:
    with pytest.raises(TrustError, match="names no right"):
        require(Person(name="root", role="admin"), None)


async def test_own_means_the_sites_that_are_named() -> None:
    owner = Person(name="olga", role="data-owner", sites=("a", "b"))
    assert [may(owner, "sites.revoke", site) for site in ("a", "b", "c", "", None)] == [True, True, False, False, False]


async def test_a_refusal_names_the_least_role_that_may() -> None:
    with pytest.raises(TrustError) as refused:
        require(Person(name="ana", role="viewer"), "events.read")
    assert refused.value.hint.endswith("`archipel user role ana auditor`")


# ---- the rest of the door -----------------------------------------------------------------------------------------


async def test_what_was_refused_is_in_the_log_by_name_and_with_its_reason(town: Town) -> None:
    town.house.people.add(NewPerson(name="vera", role="viewer", password="correct horse staple"), "person/admin")
    vera = Person(name="vera", role="viewer")
    token = town.house.logins.begin(vera, "127.0.0.1", "test", town.house.office().random).token
    await town.client.post("/v1/runs/some-run/stop", headers={"Authorization": f"Bearer {token}"})
    events = town.house.log.read(level="warning").events
    last = next(item.event for item in reversed(events) if item.event.actor == "person/vera")
    assert last.what == "request.refused"
    assert last.detail["path"] == "/v1/runs/{run}/stop"
    assert "may not stop or resume runs" in str(last.detail["reason"])
    assert last.detail["address"] == "127.0.0.1"


async def test_too_many_tries_to_log_in_are_answered_with_how_long_to_wait(town: Town) -> None:
    class Never:
        def fits(self, password: str, kept: str | None) -> bool:
            return False

    town.house.logins._passwords, real = Never(), town.house.logins._passwords  # type: ignore[assignment]
    statuses = []
    for number in range(12):
        # Whoever says to come from elsewhere is counted where they come from.
        headers = {"X-Forwarded-For": f"192.0.2.{number}", "Authorization": ""}
        guess = PasswordLogin(name=f"guess-{number}", password="x")
        answer = await town.client.post("/v1/login", content=encode(guess), headers=headers)
        statuses.append(answer.status_code)
    town.house.logins._passwords = real
    assert statuses == [403] * 10 + [429] * 2
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert decode(answer.content, Failure).error == "TooManyError"
