"""Joining against the real control plane, over real TLS: what works, what is refused, and crashes in between."""

from __future__ import annotations

import base64
import os
import re
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

import archipel
from archipel.security import JoinToken, read_token
from archipel.security.tokens import _PREFIX
from archipel.site.agent import SiteFolder, join
from archipel.spec import ArchipelError, DataError, LinkError, StateError, TrustError, decode, encode
from archipel.spec.views import InvitationRequest, InvitationView, Operator

JOIN = Path(archipel.__file__).parent / "site" / "agent" / "join.py"
FAILPOINTS = sorted(set(re.findall(r'failpoint\("([^"]+)"\)', JOIN.read_text())))
PROGRAM = """
import sys, time
from pathlib import Path
from archipel.site.agent.join import join
join(sys.stdin.read(), Path(sys.argv[1]), {}, now=time.time())
"""


class Control:
    """The real control plane in a process of its own."""

    def __init__(self, state: Path) -> None:
        words = [sys.executable, "-m", "archipel.control", "--state", str(state), "--http-port", "0"]
        self.process = subprocess.Popen([*words, "--sites-port", "0"])
        path = state / "operator.json"
        end = time.monotonic() + 240
        while not path.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                self.process.wait()
                pytest.fail("control does not come up")
            time.sleep(0.02)
        self.operator = decode(path.read_bytes(), Operator)
        trust = ssl.create_default_context(cadata=self.operator.ca_pem)
        headers = {"Authorization": f"Bearer {self.operator.token}"}
        self.client = httpx.Client(verify=trust, base_url=self.operator.url, headers=headers, trust_env=False)

    def invite(self, site: str) -> str:
        answer = self.client.post("/v1/invitations", content=encode(InvitationRequest(site=site)))
        assert answer.status_code < 300, answer.text
        return decode(answer.content, InvitationView).token

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    running = Control(tmp_path_factory.mktemp("control"))
    yield running
    running.close()


def changed(token: str, **fields: str) -> str:
    new = msgspec.structs.replace(read_token(token), **fields)
    return _PREFIX + base64.urlsafe_b64encode(encode(new)).decode().rstrip("=")


def test_a_site_joins_with_a_key_that_only_it_can_read_and_may_join_again(control: Control, tmp_path: Path) -> None:
    token = control.invite("biscoe")
    data = tmp_path / "birds.csv"
    data.write_text("x\n1\n")
    identity = join(token, tmp_path / "site", {"birds": data}, now=time.time())
    assert identity.site == "biscoe"
    folder = SiteFolder(tmp_path / "site")
    assert stat.S_IMODE(folder.key.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder.path / "identity.json").stat().st_mode) == 0o600
    assert join(token, tmp_path / "site", {}, now=time.time()) == identity


def test_a_second_token_renews_a_site_whose_certificate_has_expired(control: Control, tmp_path: Path) -> None:
    first = join(control.invite("late"), tmp_path / "site", {}, now=time.time())
    second = join(control.invite("late"), tmp_path / "site", {}, now=time.time() + 10 * 86400)
    assert first.certificate.certificate_pem != second.certificate.certificate_pem


def test_a_new_token_lets_a_revoked_site_back_into_its_own_folder(control: Control, tmp_path: Path) -> None:
    first = join(control.invite("stolen"), tmp_path / "site", {}, now=time.time())
    assert control.client.post("/v1/sites/stolen/revoke").status_code == 200
    second = join(control.invite("stolen"), tmp_path / "site", {}, now=time.time())
    assert first.certificate.certificate_pem != second.certificate.certificate_pem
    assert SiteFolder(tmp_path / "site").identity() == second


class Bad(msgspec.Struct):
    name: str
    spoil: Callable[[str], str]
    error: type[ArchipelError]
    says: str


BAD = [
    Bad("not a token", lambda token: "hello", TrustError, "not a join token"),
    Bad("cut short", lambda token: token[:-7], TrustError, "damaged"),
    Bad("wrong secret", lambda token: changed(token, secret="00" * 16), TrustError, "secret is wrong"),
    Bad("another site's", lambda token: changed(token, site="dream"), TrustError, "not 'dream'"),
    Bad("another CA", lambda token: changed(token, ca="ab" * 32), TrustError, "not the control plane"),
    Bad("nobody there", lambda token: changed(token, control="https://127.0.0.1:9"), LinkError, "cannot be reached"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
@pytest.mark.attack("network", "join by a bad token")
def test_a_bad_token_is_refused_by_name_and_leaves_no_identity(bad: Bad, control: Control, tmp_path: Path) -> None:
    token = control.invite("spoilt")
    with pytest.raises(bad.error, match=bad.says) as caught:
        join(bad.spoil(token), tmp_path / "site", {}, now=time.time())
    assert caught.value.hint
    assert SiteFolder(tmp_path / "site").identity() is None


@pytest.mark.attack("network", "join by a token that has been used")
def test_a_token_works_once(control: Control, tmp_path: Path) -> None:
    token = control.invite("once")
    join(token, tmp_path / "mine", {}, now=time.time())
    with pytest.raises(TrustError, match="has been used") as caught:
        join(token, tmp_path / "thief", {}, now=time.time())
    assert "archipel invite once" in caught.value.hint


def test_a_folder_belongs_to_one_site(control: Control, tmp_path: Path) -> None:
    join(control.invite("north"), tmp_path / "site", {}, now=time.time())
    with pytest.raises(StateError, match="folder of site 'north', not 'south'"):
        join(control.invite("south"), tmp_path / "site", {}, now=time.time())


def test_data_that_is_not_there_is_named_before_the_token_is_spent(control: Control, tmp_path: Path) -> None:
    token = control.invite("careful")
    with pytest.raises(DataError, match="'birds'"):
        join(token, tmp_path / "site", {"birds": tmp_path / "absent"}, now=time.time())
    assert join(token, tmp_path / "site", {}, now=time.time()).site == "careful"


@pytest.mark.parametrize("name", FAILPOINTS)
def test_killed_there_joining_goes_on_with_the_same_token(name: str, control: Control, tmp_path: Path) -> None:
    token = control.invite(f"{name.replace('.', '-').replace('_', '-')}"[:40])
    marker = tmp_path / "died"
    environment = {**os.environ, "ARCHIPEL_FAILPOINT": f"{name}@{marker}"}
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "site")]
    first = subprocess.run(words, input=token, text=True, env=environment, check=False)
    assert first.returncode == -9
    assert marker.exists()
    second = subprocess.run(words, input=token, text=True, env=environment, check=False)
    assert second.returncode == 0
    assert SiteFolder(tmp_path / "site").require_identity().site == read_token(token).site


def test_a_token_says_who_is_meant(control: Control) -> None:
    token: JoinToken = read_token(control.invite("named"))
    assert token.control == control.operator.url
