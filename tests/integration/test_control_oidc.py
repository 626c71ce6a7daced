"""Logging in by an OIDC issuer that really runs: a table of attacks, each refused by name, and keys that rotate."""

from __future__ import annotations

import base64
import hmac
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from archipel.cli.client import Client
from archipel.cli.device import get_id_token
from archipel.control.services.accounts import issuer as issuers
from archipel.control.services.accounts.issuer import Issuer
from archipel.control.services.accounts.logins import Logins
from archipel.control.services.accounts.passwords import Passwords
from archipel.control.services.accounts.people import People
from archipel.control.services.accounts.refusals import Refusals
from archipel.control.services.audit import EventLog
from archipel.control.store import schema
from archipel.control.store.database import Database
from archipel.security.oidc import ALGORITHMS
from archipel.spec import ArchipelError, LinkError, SpecError, StateError, TrustError, UnknownNameError, encode
from archipel.spec.issuer import IssuerFile, person_of, read_issuer
from archipel.spec.people import Assignment, Login, NewPerson, Person
from oidc_issuer import CLIENT, make_key, running_issuer
from oidc_issuer import Issuer as Remote
from unit.control.control_house import at_home

FILE = """
issuer = "{url}"
client_id = "archipel"
ca = "issuer-ca.pem"
[roles]
admins = "admin"
scientists = "scientist"
wards = "data-owner"
[sites]
wards = ["a"]
ward-b = ["b"]
"""


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_issuer(tmp_path_factory.mktemp("issuer")) as issuer:
        yield issuer


class Desk:
    """A control plane's log-ins, with a clock of the test's own for what is kept how long."""

    def __init__(self, database: Database, file: Path) -> None:
        self.ticks = 0.0
        self.log = EventLog(database, time.time)
        refusals = Refusals(self.log, self.clock)
        self.people = People(database, self.log, Passwords(), time.time)
        self.logins = Logins(database, self.log, Passwords(), refusals, clock=time.time, monotonic=self.clock)
        self.issuer = Issuer.open(file, database, time.time, self.clock)

    def clock(self) -> float:
        return self.ticks

    def log_in(self, token: str) -> Login:
        self.ticks += 30.0  # tries to log in are counted elsewhere
        return self.logins.log_in_by(self.issuer.identify, token, "10.0.0.1", lambda count: token[-count:].encode())


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the present schema and nothing in it."""
    path = tmp_path_factory.mktemp("empty") / "control.db"
    database = Database.open(f"sqlite:///{path}")
    schema.upgrade(database)
    database.close()
    return path


@pytest.fixture
def desk(remote: Remote, empty: Path, tmp_path: Path) -> Iterator[Desk]:
    remote.keys[:] = remote.keys[:1]
    remote.fetched.clear()
    file = remote.ca_file.with_name("oidc.toml")
    file.write_text(FILE.format(url=remote.url))
    database = Database.open(f"sqlite:///{shutil.copy(empty, tmp_path)}")
    yield Desk(database, file)
    database.close()


def test_claims_become_a_person_with_a_role_and_a_log_in_of_ours(desk: Desk, remote: Remote) -> None:
    login = desk.log_in(remote.token())
    assert login.person == Person(name="ana", role="scientist")
    assert desk.logins.who(login.token) == login.person
    [view] = desk.people.list().people
    assert (view.origin, view.role, view.logins) == ("issuer", "scientist", 1)
    [event] = [logged.event for logged in desk.log.read().events]
    assert (event.what, event.actor) == ("login.accepted", "person/ana")
    assert event.detail == {"address": "10.0.0.1", "way": "issuer", "role": "scientist"}


# ---- attacks ------------------------------------------------------------------------------------------------------


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(remote: Remote, algorithm: str) -> str:
    head = {"alg": algorithm, "kid": remote.keys[0].kid}
    return f"{b64(json.dumps(head).encode())}.{b64(json.dumps(remote.claims()).encode())}."


def by_public_key_as_secret(remote: Remote, form: str) -> str:
    """HS256 with the public key as the secret, as PEM or as the JWK's own bytes."""
    key = remote.keys[0]
    secret = key.as_pem(private=False) if form == "pem" else json.dumps(key.as_dict(private=False)).encode()
    signed = unsigned(remote, "HS256").rstrip(".")
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), 'sha256'))}"


def changed(remote: Remote) -> str:
    head, _, signature = remote.token().split(".")
    return f"{head}.{b64(json.dumps(remote.claims(groups=['admins'])).encode())}.{signature}"


def with_own_key_in_header(remote: Remote) -> str:
    mine = make_key(remote.keys[0].kid)
    return remote.token(mine, header={"jwk": mine.as_dict(private=False), "jku": "https://attacker.example/keys"})


NOW = int(time.time())
HOUR = 3600


@dataclass(frozen=True)
class Attack:
    name: str
    make: Callable[[Remote], str]
    said: str


ATTACKS = (
    Attack("alg none", lambda r: unsigned(r, "none"), "its algorithm is none of RS256"),
    Attack("alg None", lambda r: unsigned(r, "None"), "its algorithm is none of RS256"),
    Attack("alg RS256, no signature", lambda r: unsigned(r, "RS256"), "signature does not hold"),
    Attack("HS256 with the PEM", lambda r: by_public_key_as_secret(r, "pem"), "its algorithm is none of"),
    Attack("HS256 with the JWK", lambda r: by_public_key_as_secret(r, "jwk"), "its algorithm is none of"),
    Attack("own key of the same kid", lambda r: r.token(make_key("first")), "signature does not hold"),
    Attack("own key in the header", with_own_key_in_header, "signature does not hold"),
    Attack("own key, new kid", lambda r: r.token(make_key("mine")), "has no such key"),
    Attack("EC key of an RSA kid", lambda r: r.token(make_key("first", "EC")), "has no such key"),
    Attack("claims changed", changed, "signature does not hold"),
    Attack("another issuer", lambda r: r.token(iss="https://evil.example"), "another issuer"),
    Attack("issuer with a slash", lambda r: r.token(iss=r.url + "/"), "another issuer"),
    Attack("no issuer", lambda r: r.token(iss=None), "another issuer"),
    Attack("another audience", lambda r: r.token(aud="grafana"), "another audience"),
    Attack("no audience", lambda r: r.token(aud=None), "another audience"),
    Attack("for another party", lambda r: r.token(aud=[CLIENT, "grafana"], azp="grafana"), "another audience"),
    Attack("several audiences", lambda r: r.token(aud=[CLIENT, "grafana"]), "several audiences"),
    Attack("expired", lambda r: r.token(iat=NOW - HOUR, exp=NOW - HOUR // 2), "has expired"),
    Attack("no end", lambda r: r.token(exp=None), "has no exp"),
    Attack("an end that is a text", lambda r: r.token(exp="tomorrow"), "has no exp"),
    Attack(
        "issued long ago, with a late end", lambda r: r.token(iat=NOW - HOUR, exp=NOW + HOUR), "not issued just now"
    ),
    Attack("issued in the future", lambda r: r.token(iat=NOW + HOUR, exp=NOW + 2 * HOUR), "not issued just now"),
    Attack("not issued at any time", lambda r: r.token(iat=None), "has no iat"),
    Attack("not yet valid", lambda r: r.token(nbf=NOW + HOUR), "does not hold yet"),
    Attack("no subject", lambda r: r.token(sub=None), "names no subject"),
    Attack("empty subject", lambda r: r.token(sub=""), "names no subject"),
    Attack("an access token", lambda r: r.token(header={"typ": "at+jwt"}), "another type"),
    Attack("an unknown critical header", lambda r: r.token() and critical(r), "signature does not hold"),
    Attack("encrypted", lambda r: "a.b.c.d.e", "not a signed token"),
    Attack("nothing", lambda r: "", "not a signed token"),
    Attack("not base64", lambda r: "!.!.!", "header cannot be read"),
    Attack("nested without end", lambda r: f"{b64(b'[' * 9000)}.x.y", "header cannot be read"),
    Attack("too long", lambda r: r.token(padding="x" * 20_000), "not a signed token"),
    Attack("no role", lambda r: r.token(groups=["staff"]), "ana has no role here"),
    Attack("groups as numbers", lambda r: r.token(groups=[1, None, {"admins": 1}]), "ana has no role here"),
    Attack("a name that is none", lambda r: r.token(preferred_username="../ana"), "holds no name"),
    Attack("no name", lambda r: r.token(preferred_username=None), "holds no name"),
)


def critical(remote: Remote) -> str:
    head, body, signature = remote.token().split(".")
    decoded = json.loads(base64.urlsafe_b64decode(head + "=="))
    return f"{b64(json.dumps(decoded | {'crit': ['exp']}).encode())}.{body}.{signature}"


@pytest.mark.attack("insider", "log in by a token of the issuer that does not hold")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_refused_by_name_and_noted_without_the_token(desk: Desk, remote: Remote, attack: Attack) -> None:
    token = attack.make(remote)
    with pytest.raises(TrustError, match=attack.said) as refused:
        desk.log_in(token)
    assert refused.value.hint
    assert desk.people.list().people == ()
    [event] = [logged.event for logged in desk.log.read().events]
    assert (event.what, event.actor, event.level) == ("login.refused", "address/10.0.0.1", "warning")
    assert event.detail["reason"] == refused.value.message
    for part in filter(None, token.split(".")):
        assert len(part) < 8 or part.encode() not in encode(event)


def test_every_algorithm_that_is_taken_is_asymmetric() -> None:
    assert not [name for name in ALGORITHMS if name.lower() == "none" or name.startswith("HS")]


@pytest.mark.attack("insider", "log in by a token of the issuer a second time")
def test_a_token_lets_in_once(desk: Desk, remote: Remote) -> None:
    token = remote.token()
    desk.log_in(token)
    with pytest.raises(TrustError, match="used before"):
        desk.log_in(token)


@pytest.mark.attack("insider", "log in by a token of the issuer a second time")
def test_a_second_signature_made_of_the_first_does_not_let_in_again(desk: Desk, remote: Remote) -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (FIPS 186-4, D.1.2.3)
    remote.keys.append(make_key("curve", "EC"))
    head, body, signature = remote.token().split(".")
    desk.log_in(f"{head}.{body}.{signature}")
    raw = base64.urlsafe_b64decode(signature + "==")
    other = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    assert other != raw
    with pytest.raises(TrustError, match="used before"):
        desk.log_in(f"{head}.{body}.{b64(other)}")


@pytest.mark.parametrize("leeway", [-59, 0])
def test_clocks_may_differ_by_a_minute(desk: Desk, remote: Remote, leeway: int) -> None:
    now = int(time.time())
    assert desk.log_in(remote.token(iat=now - 30, exp=now + leeway)).person.name == "ana"


# ---- keys and documents -------------------------------------------------------------------------------------------


def test_a_key_that_the_issuer_changed_to_is_fetched_and_a_withdrawn_one_is_not_believed_for_long(
    desk: Desk, remote: Remote
) -> None:
    old = remote.keys[0]
    desk.log_in(remote.token())
    remote.keys.append(make_key("second", "EC"))
    assert desk.log_in(remote.token()).person.name == "ana"  # ES256, after one more fetch
    assert remote.fetched.count("/keys") == 2
    assert desk.log_in(remote.token(old)).person.name == "ana"
    assert remote.fetched.count("/keys") == 2
    remote.keys.remove(old)
    desk.ticks += issuers.KEPT_SECONDS
    with pytest.raises(TrustError, match="no such key"):
        desk.log_in(remote.token(old, jti="2"))
    remote.keys.insert(0, old)


def test_tokens_with_made_up_keys_do_not_become_requests_to_the_issuer(desk: Desk, remote: Remote) -> None:
    token = remote.token(make_key("made-up"))
    for _ in range(20):
        with pytest.raises(TrustError, match="no such key"):
            desk.issuer.identify(token)
    assert remote.fetched.count("/keys") == 2


@dataclass(frozen=True)
class Wrong:
    name: str
    change: Callable[[Remote], dict[str, Any]]
    error: type[ArchipelError]
    said: str


WRONG = (
    Wrong("another name", lambda r: {"issuer": "https://evil.example"}, TrustError, "calls itself by another name"),
    Wrong("keys in clear text", lambda r: {"jwks_uri": "http://localhost/keys"}, LinkError, "not lie at an https"),
    Wrong("keys missing", lambda r: {"jwks_uri": f"{r.url}/none"}, LinkError, "cannot be fetched"),
    Wrong("no device flow", lambda r: {"device_authorization_endpoint": None}, LinkError, "do not say what"),
    Wrong("too large", lambda r: {"padding": "x" * issuers.MAX_DOCUMENT_BYTES}, LinkError, "too large"),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_documents_that_are_wrong_let_nobody_in(
    desk: Desk, remote: Remote, wrong: Wrong, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "documents", remote.documents | wrong.change(remote))
    with pytest.raises(wrong.error, match=wrong.said) as refused:
        desk.issuer.identify(remote.token())
    assert refused.value.hint


def test_an_issuer_whose_certificate_nobody_vouches_for_is_not_believed(desk: Desk, remote: Remote) -> None:
    file = remote.ca_file.with_name("without.toml")
    file.write_text(FILE.format(url=remote.url).replace('ca = "issuer-ca.pem"', ""))
    other = Issuer.open(file, desk.issuer._database, time.time, desk.clock)
    with pytest.raises(LinkError, match="CERTIFICATE_VERIFY_FAILED"):
        other.identify(remote.token())


# ---- accounts -----------------------------------------------------------------------------------------------------


@pytest.mark.attack("insider", "take over an account by its name at the issuer")
def test_a_name_that_is_another_account_is_not_taken_over(desk: Desk, remote: Remote) -> None:
    desk.people.add(NewPerson(name="ana", role="admin", password="correct horse staple"), "person/admin")
    with pytest.raises(TrustError, match="the name ana is another account's"):
        desk.log_in(remote.token())
    with pytest.raises(TrustError, match="the name admin is another account's"):
        desk.log_in(remote.token(preferred_username="admin"))  # also before the owner's file is written
    desk.log_in(remote.token(preferred_username="bob"))
    with pytest.raises(TrustError, match="the name bob is another account's"):
        desk.log_in(remote.token(sub="4712", preferred_username="bob"))


def test_who_is_called_otherwise_now_stays_the_same_person_and_old_log_ins_end(desk: Desk, remote: Remote) -> None:
    before = desk.log_in(remote.token())
    desk.log_in(remote.token(preferred_username="ana.new"))
    assert [view.name for view in desk.people.list().people] == ["ana.new"]
    with pytest.raises(TrustError):
        desk.logins.who(before.token)


def test_the_claims_of_the_last_log_in_decide_the_role_and_nobody_else_does(desk: Desk, remote: Remote) -> None:
    first = desk.log_in(remote.token(groups=["admins", "scientists"]))
    assert first.person.role == "admin"
    desk.log_in(remote.token(groups=["scientists"]))
    assert desk.logins.who(first.token).role == "scientist"
    with pytest.raises(StateError, match="has the role that the OIDC issuer gives"):
        desk.people.assign("ana", Assignment(role="admin"), "person/admin")
    desk.people.remove("ana", "person/admin")
    with pytest.raises(TrustError):
        desk.logins.who(first.token)


CLAIMS = {"preferred_username": "ana", "groups": ["wards"]}
MAPPING = IssuerFile(
    issuer="https://i",
    client_id="c",
    roles={"admins": "admin", "wards": "data-owner", "all": "viewer"},
    sites={"wards": ("b", "a"), "ward-c": ("c",)},
)


@pytest.mark.parametrize(
    ("groups", "person"),
    [
        (["all", "admins"], Person(name="ana", role="admin")),  # the first line of the file, not of the token
        ("all", Person(name="ana", role="viewer")),
        (["wards"], Person(name="ana", role="data-owner", sites=("a", "b"))),
        (["ward-c", "wards"], Person(name="ana", role="data-owner", sites=("a", "b", "c"))),
        (["ward-c", "all"], Person(name="ana", role="viewer")),
    ],
)
def test_groups_become_a_role_and_sites(groups: Any, person: Person) -> None:
    assert person_of(CLAIMS | {"groups": groups}, MAPPING) == person


def test_an_email_is_a_name_only_if_the_issuer_has_verified_it() -> None:
    file = IssuerFile(issuer="https://i", client_id="c", name="email", roles={"wards": "viewer"})
    claims = CLAIMS | {"email": "Ana@Hospital.example"}
    assert person_of(claims | {"email_verified": True}, file).name == "ana@hospital.example"
    for verified in (False, None, "true", 1):
        with pytest.raises(TrustError, match="not verified"):
            person_of(claims | {"email_verified": verified}, file)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("issuer = ", SpecError, "not valid TOML"),
        ('issuer = "http://i"\nclient_id = "c"\n[roles]\n', SpecError, "matching regex"),
        ('issuer = "https://i"\nclient_id = "c"\n[roles]\nx = "viewr"', UnknownNameError, "unknown role"),
        ('isuer = "https://i"\n', UnknownNameError, "'isuer'"),
        ('issuer = "https://i"\nclient_id = "c"\n', SpecError, "roles"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_name(text: str, error: type[ArchipelError], said: str) -> None:
    with pytest.raises(error, match=said) as refused:
        read_issuer(text.encode(), "oidc.toml")
    assert "oidc.toml" in refused.value.message
    assert refused.value.hint


# ---- the whole way ------------------------------------------------------------------------------------------------


async def test_the_device_flow_ends_with_a_log_in_over_https(remote: Remote, tmp_path: Path) -> None:
    import asyncio

    file = remote.ca_file.with_name("oidc.toml")
    file.write_text(FILE.format(url=remote.url))
    said: list[str] = []
    slept: list[float] = []
    pending, slow = {"error": "authorization_pending"}, {"error": "slow_down"}
    remote.confirmations[:] = [pending, slow, pending, {"id_token": remote.token(groups=["wards"])}]

    def log_in(client: Client) -> Login:
        with client:
            return client.log_in_by_issuer(get_id_token(client.issuer(), said.append, slept.append))

    async with at_home(tmp_path, oidc=file) as home:
        login = await asyncio.to_thread(log_in, Client(home.operator))
        async with home.client(login.token) as client:
            assert (await client.get("/v1/login")).json()["role"] == "data-owner"
            assert (await client.post("/v1/sites/a/revoke")).status_code == 404
            assert (await client.post("/v1/sites/b/revoke")).status_code == 403
    assert said == [f"open {remote.url}/activate in a browser; the code is WDJB-MJHT"]
    assert slept == [0.0, 0.0, 5.0, 5.0]


async def test_without_an_issuer_the_way_in_is_named(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home, home.client() as client:
        answer = await client.get("/v1/login/issuer")
        assert answer.status_code == 409
        assert "--oidc FILE" in answer.json()["hint"]


@pytest.mark.parametrize("error", ["access_denied", "expired_token"])
def test_who_refuses_in_the_browser_gets_no_token(desk: Desk, remote: Remote, error: str) -> None:
    remote.confirmations[:] = [{"error": error}]
    with pytest.raises(TrustError, match=error):
        get_id_token(desk.issuer.view(), lambda _: None, lambda _: None)
