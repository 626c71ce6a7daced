"""The people's door under abuse: tokens, bodies, names; and what each kind of failure looks like, over real HTTPS."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import re
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec import structs

from archipel.control.api.people import MAX_BODY_BYTES, build
from archipel.control.services.accounts.refusals import Refusals
from archipel.security import load_or_make_key, read_token, signing_request
from archipel.spec import Blob, decode, digest_of, encode
from archipel.spec.views import InvitationView, Operator, RunRequest, RunsPage, RunView
from archipel.spec.wire import Certificate, Enrolment, Failure
from unit.control.control_house import Home, at_home, living
from unit.control.control_plane import make_bundle, make_job


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    async with at_home(tmp_path_factory.mktemp("house"), max_bundle_bytes=2_000_000) as served:
        yield served


pytestmark = pytest.mark.asyncio(loop_scope="module")
PUBLIC = {"/healthz", "/metrics", "/v1/authority", "/v1/enrolments", "/v1/login/issuer"}


def addresses() -> list[tuple[str, str]]:
    """Every declared address, with the methods it takes."""
    app = build(None, 1000)  # type: ignore[arg-type]
    found = app.openapi_schema.to_schema()["paths"]
    return sorted((path, method.upper()) for path, methods in found.items() for method in methods)


def filled_in(path: str) -> str:
    """The address, with something in the place of each name."""
    return re.sub(r"{(version|number)}", "1", re.sub(r"{(name|run|person)}", "x", path))


async def test_the_addresses_are_these() -> None:
    paths = {path for path, _ in addresses()}
    assert paths == PUBLIC | {
        "/v1/audit/entries/{number}",
        "/v1/audit/growth",
        "/v1/audit/head",
        "/v1/bundles",
        "/v1/events",
        "/v1/inventories",
        "/v1/invitations",
        "/v1/login",
        "/v1/logout",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/models/{name}/{version}",
        "/v1/models/{name}/{version}/onnx",
        "/v1/models/{name}/{version}/weights",
        "/v1/password",
        "/v1/people",
        "/v1/people/{person}/remove",
        "/v1/people/{person}/role",
        "/v1/plans",
        "/v1/runs",
        "/v1/runs/{run}",
        "/v1/runs/{run}/progress",
        "/v1/runs/{run}/report",
        "/v1/runs/{run}/resume",
        "/v1/runs/{run}/stop",
        "/v1/sites",
        "/v1/sites/{name}",
        "/v1/sites/{name}/inventory",
        "/v1/sites/{name}/revoke",
    }


@pytest.mark.parametrize("bearer", ["", "wrong", "Basic", "two words", "é"])
@pytest.mark.attack("network", "use the people's door without a token")
async def test_every_address_but_the_public_ones_asks_for_an_operators_token(home: Home, bearer: str) -> None:
    headers = {"Authorization": f"Bearer {bearer}".encode("latin-1")} if bearer else {"Authorization": b""}
    async with home.client() as client:
        for path, method in addresses():
            answer = await client.request(method, filled_in(path), headers=headers)
            if path in PUBLIC or (method, path) == ("POST", "/v1/login"):
                assert answer.status_code != 401, path
            else:
                assert answer.status_code == 401, path
                assert decode(answer.content, Failure).error == "TrustError"
                assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_run_asked_for_again_by_its_name_is_the_same_run_and_no_other_job_gets_the_name(
    tmp_path: Path,
) -> None:
    job = make_job()
    bundle = make_bundle(tmp_path / "job")
    async with at_home(tmp_path / "house") as home, home.client() as client:
        uploaded = await client.post("/v1/bundles", content=bundle, headers={"Content-Type": "application/zip"})
        digest = decode(uploaded.content, Blob).digest
        asked = RunRequest(job=job, bundle=digest, id="named-1")
        answers = [await client.post("/v1/runs", content=encode(asked)) for _ in range(2)]
        assert [decode(answer.content, RunView).id for answer in answers] == ["named-1", "named-1"]
        runs = decode((await client.get("/v1/runs")).content, RunsPage).runs
        assert [run.id for run in runs].count("named-1") == 1
        other = RunRequest(job=structs.replace(job, name="other"), bundle=digest, id="named-1")
        refused = await client.post("/v1/runs", content=encode(other))
        assert refused.status_code == 409
        assert "another job" in decode(refused.content, Failure).message


async def test_the_page_of_the_schema_loads_nothing_from_elsewhere_and_all_it_loads_is_there(home: Home) -> None:
    async with home.client() as client:
        page = await client.get("/schema", headers={"Authorization": "", "Accept": "text/html"})
        assert page.status_code == 200
        loaded = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)="([^"]+)""", page.text)
        scripts = [address for address in loaded if not address.startswith("data:")]
        assert len(scripts) == 3
        for address in scripts:
            assert address.startswith("/")
            answer = await client.get(address, headers={"Authorization": ""})
            assert answer.status_code == 200, address
            assert len(answer.content) > 10_000, address
        assert (await client.get("/schema-assets/../operator.json")).status_code == 404


async def test_the_operators_file_is_for_its_owner_only_and_a_restart_keeps_the_token(tmp_path: Path) -> None:
    async with at_home(tmp_path) as first:
        path = first.house.settings.state / "operator.json"
        assert path.stat().st_mode & 0o777 == 0o600
        token = first.operator.token
    async with at_home(tmp_path) as second:
        assert decode(path.read_bytes(), Operator).token == token
        async with second.client() as client:
            assert (await client.get("/v1/sites")).status_code == 200


@dataclasses.dataclass(frozen=True)
class Bad:
    name: str
    method: str
    path: str
    body: bytes
    status: int
    said: str


def _zip(name: str, mode: int = 0o100644) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, b"x")
    return out.getvalue()


def _bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo("task.py")
        entry.external_attr = 0o100644 << 16
        archive.writestr(entry, b"\0" * 50_000_000, zipfile.ZIP_DEFLATED)
    return out.getvalue()


_JOB = encode(make_job())
BAD = (
    Bad("truncated JSON", "POST", "/v1/invitations", b'{"site":', 400, "truncated"),
    Bad("not JSON", "POST", "/v1/invitations", b"\xff\xfe", 400, ""),
    Bad("empty", "POST", "/v1/invitations", b"", 400, ""),
    Bad("an unknown field", "POST", "/v1/invitations", b'{"site":"a","role":"admin"}', 400, "unknown field `role`"),
    Bad("a path as a name", "POST", "/v1/invitations", b'{"site":"../../etc"}', 400, "matching regex"),
    Bad("a name with a newline", "POST", "/v1/invitations", b'{"site":"a\\n"}', 400, "matching regex"),
    Bad("a number for a name", "POST", "/v1/invitations", b'{"site":7}', 400, "Expected `str`"),
    Bad("nesting without end", "POST", "/v1/invitations", b'{"site":' * 10_000, 400, ""),
    Bad("too long", "POST", "/v1/invitations", b'{"site":"' + b"a" * MAX_BODY_BYTES, 413, "Too Large"),
    Bad("a job with an unknown key", "POST", "/v1/plans", b'{"job":{"type":"job/1","name":"x","gpu":1}}', 400, "job"),
    Bad("a job of a later version", "POST", "/v1/plans", b'{"job":{"type":"job/2"}}', 400, "job/2"),
    Bad("a plan nobody can join", "POST", "/v1/plans", b'{"job":' + _JOB + b"}", 400, "0 sites"),
    Bad(
        "no such bundle",
        "POST",
        "/v1/runs",
        b'{"job":' + _JOB + b',"bundle":"sha256:' + b"0" * 64 + b'"}',
        409,
        "no bundle",
    ),
    Bad("a bundle that is no zip", "POST", "/v1/bundles", b"PK\3\4 birds", 403, "zip"),
    Bad("a bundle that climbs out", "POST", "/v1/bundles", _zip("../task.py"), 403, "leaves its folder"),
    Bad("a bundle with an absolute name", "POST", "/v1/bundles", _zip("/etc/passwd"), 403, "leaves its folder"),
    Bad("a bundle with a link", "POST", "/v1/bundles", _zip("task.py", 0o120777), 403, "not a plain file"),
    Bad("a bundle with a device", "POST", "/v1/bundles", _zip("task.py", 0o020644), 403, "not a plain file"),
    Bad("a bundle that swells", "POST", "/v1/bundles", _bomb(), 403, "too much"),
    Bad("a bundle over the limit", "POST", "/v1/bundles", b"x" * 2_000_001, 413, "Too Large"),
    Bad("no such run", "GET", "/v1/runs/nobodys", b"", 404, "unknown run 'nobodys'"),
    Bad("no such run to stop", "POST", "/v1/runs/nobodys/stop", b"", 404, "unknown run"),
    Bad("no such run to watch", "GET", "/v1/runs/nobodys/progress?after=0", b"", 404, "unknown run"),
    Bad("no such site", "GET", "/v1/sites/..%2f..%2fetc", b"", 404, ""),
    Bad("no such model", "GET", "/v1/models/none/1/weights", b"", 404, "unknown model"),
    Bad("a version that is no number", "GET", "/v1/models/none/last", b"", 404, ""),
    Bad("a version beyond all numbers", "GET", "/v1/models/none/" + "9" * 30, b"", 400, "too large"),
    Bad("no such level", "GET", "/v1/events?level=shouting", b"", 400, "level"),
    Bad("a place before the first", "GET", "/v1/events?after=-1", b"", 400, "after"),
    Bad("a place beyond all numbers", "GET", "/v1/events?after=" + "9" * 30, b"", 400, "after"),
    Bad("no such address", "GET", "/v2/runs", b"", 404, "Not Found"),
    Bad("no such method", "DELETE", "/v1/runs", b"", 405, "Not Allowed"),
)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
async def test_bad_input_is_refused_by_name_with_a_next_step_and_costs_nothing(home: Home, bad: Bad) -> None:
    before = sorted(path for path in home.house.settings.state.rglob("*") if "spool" in path.parts and path.is_file())
    async with home.client() as client:
        content = bad.body or (b"" if bad.method == "POST" else None)
        answer = await client.request(bad.method, bad.path, content=content)
        assert answer.status_code == bad.status, answer.text
        failure = decode(answer.content, Failure)
        assert bad.said in failure.message
        assert failure.hint
        assert (await client.get("/v1/runs")).json() == {"runs": []}
    after = sorted(path for path in home.house.settings.state.rglob("*") if "spool" in path.parts and path.is_file())
    assert after == before


# ---- joining --------------------------------------------------------------------------------------------------------


def _enrolment(home: Home, folder: Path, token: str, **change: Any) -> bytes:
    read = read_token(token)
    csr = signing_request(load_or_make_key(folder / "site.key"), read.site)
    return encode(Enrolment(**{"site": read.site, "secret": read.secret, "csr_pem": csr, **change}))


async def _invited(home: Home, site: str) -> str:
    async with home.client() as client:
        answer = await client.post("/v1/invitations", content=b'{"site":"%s"}' % site.encode())
        return decode(answer.content, InvitationView).token


async def _enrol(home: Home, body: bytes) -> tuple[int, Any]:
    async with home.client() as client:
        answer = await client.post("/v1/enrolments", content=body, headers={"Authorization": ""})
        kind = Certificate if answer.status_code == 201 else Failure
        return answer.status_code, decode(answer.content, kind)


@pytest.mark.attack(
    "network",
    "use a join token again",
    open="Whoever is first is the site, and the true site notices: its own use is refused.",
)
async def test_a_token_is_spent_once_but_its_own_request_may_ask_again(home: Home, tmp_path: Path) -> None:
    token = await _invited(home, "once")
    body = _enrolment(home, tmp_path, token)
    assert (await _enrol(home, body))[0] == 201
    assert (await _enrol(home, body))[0] == 201
    (tmp_path / "thief").mkdir()
    status, failure = await _enrol(home, _enrolment(home, tmp_path / "thief", token))
    assert (status, failure.error) == (403, "TrustError")
    assert "has been used" in failure.message
    assert "archipel invite once" in failure.hint


@pytest.mark.attack("network", "join as another site")
async def test_a_token_of_one_site_does_not_let_another_in(home: Home, tmp_path: Path) -> None:
    token = await _invited(home, "mine")
    status, failure = await _enrol(home, _enrolment(home, tmp_path, token, site="yours"))
    assert status == 403
    assert "is for site 'mine'" in failure.message
    assert (await _enrol(home, _enrolment(home, tmp_path, token)))[0] == 201


@pytest.mark.attack("network", "lock a site out by wrong guesses")
async def test_strangers_who_guess_do_not_keep_a_site_from_joining(home: Home, tmp_path: Path) -> None:
    token = await _invited(home, "guessed")
    said = [await _enrol(home, _enrolment(home, tmp_path, token, secret="0" * 32)) for _ in range(6)]
    assert [failure.message for _, failure in said] == ["the token's secret is wrong"] * 6
    assert (await _enrol(home, _enrolment(home, tmp_path, token)))[0] == 201


@pytest.mark.attack("network", "use an expired join token")
async def test_an_expired_token_says_since_when(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home:
        token = await _invited(home, "late")
        home.house.enrolments._clock = lambda: home.house.clock() + 3700
        status, failure = await _enrol(home, _enrolment(home, tmp_path, token))
        assert status == 403
        assert "expired" in failure.message


@pytest.mark.attack("network", "leave something behind, and find secrets")
async def test_a_stranger_leaves_nothing_behind_and_no_secret_is_kept(home: Home, tmp_path: Path) -> None:
    token = await _invited(home, "logged")
    home.house.doorkeeper._refusals = Refusals(home.house.log, time.monotonic)  # others have used up the address's
    await _enrol(home, _enrolment(home, tmp_path, token, secret="f" * 32))
    await _enrol(home, _enrolment(home, tmp_path, token))
    events = home.house.log.read(site="logged").events
    assert [item.event.what for item in events] == ["site.invited", "site.joined"]
    last = home.house.log.read(level="warning").events[-1].event
    assert (last.what, last.actor, last.detail["path"]) == ("request.refused", "address/127.0.0.1", "/v1/enrolments")
    everything = b"".join(path.read_bytes() for path in home.house.settings.state.glob("control.db*"))
    assert read_token(token).secret.encode() not in everything
    assert home.operator.token.encode() not in everything


async def test_a_signing_request_that_is_none_is_refused(home: Home, tmp_path: Path) -> None:
    token = await _invited(home, "nocsr")
    status, failure = await _enrol(home, _enrolment(home, tmp_path, token, csr_pem="-----BEGIN BIRDS-----"))
    assert (status, failure.error) == (403, "TrustError")


# ---- runs -----------------------------------------------------------------------------------------------------------


async def test_a_job_that_cannot_run_is_refused_before_anything_is_stored(home: Home, tmp_path: Path) -> None:
    cases = {
        "sites names a site twice": make_job(federation={"sites": ["a", "a"], "min_sites": 1}),
        "asks for at least 3": make_job(federation={"sites": ["a"], "min_sites": 3}),
        "unknown site 'atlantis'": make_job(federation={"sites": ["atlantis"], "min_sites": 1}),
        "unknown file in the bundle: 'other.py'": make_job(task={"code": "other.py:Birds"}),
        "mu_typo": make_job(federation={"algorithm": "fedprox", "options": {"mu_typo": 1.0}}),
    }
    bundle = home.house.bundles.add(make_bundle(tmp_path / "job"))
    async with home.client() as client:
        for said, job in cases.items():
            answer = await client.post("/v1/runs", content=encode(RunRequest(job=job, bundle=bundle.digest)))
            assert answer.status_code in {400, 404}, answer.text
            assert said in decode(answer.content, Failure).message
        assert (await client.get("/v1/runs")).json() == {"runs": []}


async def test_a_run_waits_for_its_sites_and_says_so_and_can_be_stopped_and_resumed(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home, home.client() as client:
        bundle = await client.post("/v1/bundles", content=make_bundle(tmp_path / "job"))
        body = encode(RunRequest(job=make_job(), bundle=bundle.json()["digest"]))
        run = decode((await client.post("/v1/runs", content=body)).content, RunView)
        assert (run.state, run.message) == ("waiting", "0 of at least 3 sites with 'birds' are here")
        assert run.hint
        stopped = decode((await client.post(f"/v1/runs/{run.id}/stop")).content, RunView)
        assert stopped.state == "stopped"
        again = await client.post(f"/v1/runs/{run.id}/stop")
        assert again.status_code == 409
        resumed = decode((await client.post(f"/v1/runs/{run.id}/resume")).content, RunView)
        assert resumed.state == "waiting"
        sites = [home.site(name) for name in ("a", "b", "c")]
        async with living(*sites):
            watching = await client.get(f"/v1/runs/{run.id}/progress")
            assert watching.json()["run"]["state"] in {"waiting", "running"}
            await home.until(run.id, "finished")
        onnx = await client.get("/v1/models/birds/1/onnx")
        assert onnx.content.startswith(b"onnx of sha256:")
        assert digest_of(onnx.content) == home.house.registry.show("birds", 1).onnx.digest  # type: ignore[union-attr]


async def test_stopping_in_the_middle_and_resuming_gives_the_same_model(tmp_path: Path) -> None:
    weights = []
    for name in ("straight", "stopped"):
        folder = tmp_path / name
        folder.mkdir()
        async with at_home(folder) as home, living(*(home.site(site) for site in ("a", "b", "c"))):
            run = home.start(
                make_job(federation={"rounds": 8, "min_sites": 3, "sites": ["a", "b", "c"]}),
                make_bundle(folder / "job"),
            )
            if name == "stopped":
                await home.until(run, "running")
                home.house.runs.stop(run, "operator/t")
                await asyncio.sleep(0)
                assert home.house.standing.show(run).state == "stopped"
                home.house.runs.resume(run, "operator/t")
            await home.until(run, "finished")
            weights.append(home.house.registry.show("birds", 1).weights)
    assert weights[0] == weights[1]


async def test_the_metrics_count_what_there_is(home: Home) -> None:
    async with home.client() as client:
        text = (await client.get("/metrics")).text
    assert 'archipel_runs{state="running"} 0.0' in text
    assert "archipel_model_versions 0.0" in text


async def test_a_long_poll_answers_at_once_where_something_else_is_known(home: Home, tmp_path: Path) -> None:
    async with at_home(tmp_path) as own, own.client() as client:
        own.house.bundles.add(make_bundle(tmp_path / "job"))
        run = own.start(make_job(), make_bundle(tmp_path / "job"))
        seq = (await client.get(f"/v1/runs/{run}/progress")).json()["seq"]
        waiting = asyncio.create_task(client.get(f"/v1/runs/{run}/progress", params={"after": seq}, timeout=30))
        await asyncio.sleep(0)
        own.house.runs.stop(run, "operator/t")
        assert (await waiting).json()["run"]["state"] == "stopped"
        assert (await client.get(f"/v1/runs/{run}/progress", params={"after": seq})).json()["seq"] != seq
