"""The owner's portal: a real server on a site's folder, for whoever has its token, also while an agent holds it."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archipel.cli.main import main
from archipel.security import Authority, load_or_make_key, signing_request
from archipel.site.agent import SiteFolder
from archipel.site.agent.folder import Identity
from archipel.site.journal import Journal
from archipel.spec import Event, RoundTask, StateError, digest_of
from archipel.spec.round import Blob
from archipel.spec.wire import Certificate
from unit.site.site_fakes import SITE, make_job

JOB = make_job()
BUNDLE = Blob(digest=digest_of(b"a bundle"), size_bytes=8)


@pytest.fixture
def place(tmp_path: Path) -> SiteFolder:
    """A joined site at which one job waits, and which has refused something."""
    place, now = SiteFolder(tmp_path / "site"), dt.datetime.now(dt.UTC)
    place.path.mkdir()
    (tmp_path / "authority").mkdir()
    authority = Authority.open(tmp_path / "authority", now)
    pem = authority.certify_site(SITE, signing_request(load_or_make_key(place.key), SITE), now)
    certificate = Certificate(certificate_pem=pem, ca_pem=authority.pem, sites_address="127.0.0.1:1")
    place.become(Identity(site=SITE, control="https://127.0.0.1:1", certificate=certificate))
    with place.locked():
        journal = Journal(place.journal)
        journal.approvals.ask(RoundTask(run="run-1", round=1, site=SITE, kind="check", job=JOB, bundle=BUNDLE), 5.0)
        journal.log(Event(at=6.0, what="site.refused", actor="site", site=SITE, run="run-0", detail={"message": "no"}))
        journal.close()
    return place


class Portal:
    """`archipel policy serve` in a process of its own."""

    def __init__(self, place: SiteFolder, *words: str) -> None:
        command = [sys.executable, "-m", "archipel.cli.main", "policy", "serve", str(place.path), *words]
        environment = {**os.environ, "COLUMNS": "300"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().partition("/v1/")[0]
        self.token = (place.path / "owner.token").read_text()

    def ask(self, path: str, said: Any = None, token: str | None = None) -> tuple[int, Any]:
        """Return status and body."""
        data = None if said is None else json.dumps(said).encode()
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def end(self) -> int:
        """Stop it as Ctrl-C does."""
        self.process.send_signal(2)
        return self.process.wait(20)

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        with self.process:
            pass


@pytest.fixture
def portal(place: SiteFolder) -> Iterator[Portal]:
    """One that runs."""
    running = Portal(place)
    try:
        yield running
    finally:
        running.close()


def test_an_owner_sees_what_waits_decides_and_reads_what_was_refused(portal: Portal, place: SiteFolder) -> None:
    status, listed = portal.ask("/v1/approvals")
    assert status == 200
    [waiting] = listed["approvals"]
    assert (waiting["state"], waiting["run"], waiting["job"]["name"]) == ("waiting", "run-1", JOB.name)
    with place.locked():  # as an agent holds it
        status, decided = portal.ask(f"/v1/approvals/{waiting['id'][:12]}", {"decision": "approved"})
        assert (status, decided["state"]) == (200, "approved")
    assert portal.ask(f"/v1/approvals/{waiting['id']}")[1]["state"] == "approved"
    journal = Journal(place.journal)
    assert [event.what for event in journal.logged()] == ["site.refused", "site.job.approved"]
    assert journal.logged()[-1].actor.startswith("person/")
    journal.close()
    assert portal.ask("/v1/approvals/" + waiting["id"], {"decision": "refused"})[1]["state"] == "refused"
    [refusal] = portal.ask("/v1/refusals")[1]["refusals"]
    assert refusal["detail"] == {"message": "no"}


def test_without_the_token_nothing_is_told_or_done(portal: Portal, place: SiteFolder) -> None:
    assert (place.path / "owner.token").stat().st_mode & 0o777 == 0o600
    journal = Journal(place.journal)
    [waiting] = journal.approvals.all()
    for token in ("", "wrong", portal.token[:-1], portal.token + "x"):
        for path, said in (
            ("/v1/approvals", None),
            (f"/v1/approvals/{waiting.id}", None),
            (f"/v1/approvals/{waiting.id}", {"decision": "approved"}),
            ("/v1/refusals", None),
        ):
            status, body = portal.ask(path, said, token)
            assert status == 401
            assert "archipel policy serve" in body["hint"]
            assert "approvals" not in body
    assert [one.state for one in journal.approvals.all()] == ["waiting"]
    journal.close()


WRONG: tuple[tuple[str, Any, int, str], ...] = (
    ("/v1/approvals/000000000000", None, 404, "approval"),
    ("/v1/approvals/000000000000", {"decision": "approved"}, 404, "approval"),
    ("/v1/approvals/ID", {"decision": "perhaps"}, 400, "not a decision"),
    ("/v1/approvals/ID", {"decision": "approved", "for": "ever"}, 400, "not a decision"),
    ("/v1/approvals/ID", {"decision": "approved", "why": "x" * 5000}, 413, ""),
    ("/v1/nothing", None, 404, ""),
)


def test_what_cannot_be_answered_is_refused_and_changes_nothing(portal: Portal, place: SiteFolder) -> None:
    journal = Journal(place.journal)
    [waiting] = journal.approvals.all()
    for path, said, status, named in WRONG:
        got, body = portal.ask(path.replace("ID", waiting.id), said)
        assert (got, named in body["message"]) == (status, True), path
    assert [one.state for one in journal.approvals.all()] == ["waiting"]
    journal.close()


def test_it_ends_when_it_is_told_to_and_each_start_has_a_token_of_its_own(portal: Portal, place: SiteFolder) -> None:
    assert portal.end() in {0, 130, -2}
    again = Portal(place)
    try:
        assert again.token != portal.token
        assert again.ask("/v1/approvals", token=portal.token)[0] == 401
    finally:
        again.close()


def test_a_folder_without_a_site_and_a_port_that_is_taken_are_named(
    portal: Portal, place: SiteFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        ([str(tmp_path / "nowhere")], "no site has joined"),
        ([str(place.path), "--port", portal.url.rpartition(":")[2]], "is taken"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["policy", "serve", *words])
        assert ended.value.code == StateError.exit_code
        assert said in capsys.readouterr().err
