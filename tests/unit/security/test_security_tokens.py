"""Join tokens and certificates: what is accepted, and each way to be refused."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from archipel.security import (
    Authority,
    Invitation,
    check,
    issue,
    load_or_make_key,
    read_token,
    signing_request,
    site_of,
    write_secret,
)
from archipel.spec import TrustError

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
SECRET = bytes(range(16))


def _invitation(**changes: object) -> Invitation:
    _, stored = issue("hospital-a", "https://control:7400", "ab" * 32, secret=SECRET, now=1000.0)
    return msgspec.structs.replace(stored, **changes)


def test_a_token_survives_the_clipboard() -> None:
    text, _ = issue("hospital-a", "https://control:7400", "ab" * 32, secret=SECRET, now=1000.0)
    token = read_token(f"  {text}\n")
    assert (token.site, token.control, token.secret) == ("hospital-a", "https://control:7400", SECRET.hex())


def test_the_right_secret_is_accepted_before_it_expires() -> None:
    check(_invitation(), "hospital-a", SECRET.hex(), now=4600.0)


@dataclass(frozen=True)
class Refused:
    why: str
    invitation: Invitation
    site: str = "hospital-a"
    secret: str = SECRET.hex()
    now: float = 1001.0


@pytest.mark.parametrize(
    "case",
    [
        Refused("expired", _invitation(), now=4600.1),
        Refused("has been used", _invitation(used=True)),
        Refused("secret is wrong", _invitation(), secret="00" * 16),
        Refused("for site 'hospital-a', not 'hospital-b'", _invitation(), site="hospital-b"),
    ],
    ids=lambda case: case.why,
)
@pytest.mark.attack("network", "join by a bad token")
def test_an_invitation_refuses(case: Refused) -> None:
    with pytest.raises(TrustError, match=case.why) as caught:
        check(case.invitation, case.site, case.secret, case.now)
    assert f"archipel invite {case.site}" in caught.value.hint


@pytest.mark.parametrize("text", ["", "hello", "arc1.", "arc1.!!!", "arc1.e30", "arc2.e30"])
@pytest.mark.attack("network", "join by a bad token")
def test_a_damaged_token_is_refused_with_the_next_step(text: str) -> None:
    with pytest.raises(TrustError) as caught:
        read_token(text)
    assert "archipel invite" in caught.value.hint


def test_a_site_certificate_names_its_site_and_verifies_under_the_authority(tmp_path) -> None:
    authority = Authority.open(tmp_path, NOW)
    key = load_or_make_key(tmp_path / "site.key")
    pem = authority.certify_site("hospital-a", signing_request(key, "another-name"), NOW)
    assert site_of(pem) == "hospital-a"
    certificate = x509.load_pem_x509_certificate(pem.encode())
    store = Store([x509.load_pem_x509_certificate(authority.pem.encode())])
    verified = PolicyBuilder().store(store).time(NOW).build_client_verifier().verify(certificate, [])
    assert [name.value for name in verified.subjects or []] == ["archipel://site/hospital-a"]


def test_an_expired_site_certificate_does_not_verify(tmp_path) -> None:
    authority = Authority.open(tmp_path, NOW)
    key = load_or_make_key(tmp_path / "site.key")
    pem = authority.certify_site("a", signing_request(key, "a"), NOW, dt.timedelta(hours=1))
    store = Store([x509.load_pem_x509_certificate(authority.pem.encode())])
    verifier = PolicyBuilder().store(store).time(NOW + dt.timedelta(hours=2)).build_client_verifier()
    with pytest.raises(VerificationError):
        verifier.verify(x509.load_pem_x509_certificate(pem.encode()), [])


def test_the_control_certificate_is_no_client_certificate(tmp_path) -> None:
    authority = Authority.open(tmp_path, NOW)
    pem = authority.certify_control(load_or_make_key(tmp_path / "c.key"), ["127.0.0.1", "localhost"], NOW)
    with pytest.raises(TrustError, match="names no site"):
        site_of(pem)
    store = Store([x509.load_pem_x509_certificate(authority.pem.encode())])
    verifier = PolicyBuilder().store(store).time(NOW).build_client_verifier()
    with pytest.raises(VerificationError):
        verifier.verify(x509.load_pem_x509_certificate(pem.encode()), [])


def test_the_authority_is_the_same_after_a_restart(tmp_path) -> None:
    assert Authority.open(tmp_path, NOW).fingerprint == Authority.open(tmp_path, NOW).fingerprint


def test_an_authority_with_another_key_is_refused(tmp_path) -> None:
    Authority.open(tmp_path, NOW)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(TrustError, match="does not belong"):
        Authority.open(tmp_path, NOW)


@pytest.mark.parametrize(
    "csr", ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"]
)
def test_a_bad_signing_request_is_refused(tmp_path, csr: str) -> None:
    with pytest.raises(TrustError, match="signing request"):
        Authority.open(tmp_path, NOW).certify_site("a", csr, NOW)


def test_a_key_that_others_may_read_is_refused(tmp_path) -> None:
    path = tmp_path / "site.key"
    load_or_make_key(path)
    path.chmod(0o644)
    with pytest.raises(TrustError, match="others may read"):
        load_or_make_key(path)


def test_a_damaged_key_is_refused_and_kept(tmp_path) -> None:
    path = tmp_path / "site.key"
    write_secret(path, b"not a key")
    with pytest.raises(TrustError, match="not a private key"):
        load_or_make_key(path)
    assert path.read_bytes() == b"not a key"


def test_keys_are_made_once_and_are_private(tmp_path) -> None:
    path = tmp_path / "deep" / "site.key"
    first = load_or_make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert isinstance(first, ec.EllipticCurvePrivateKey)
    assert load_or_make_key(path).private_numbers() == first.private_numbers()
