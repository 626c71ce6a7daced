"""Enrolment: the one exchange with control's HTTPS port, before a site has a certificate.

GET  /v1/authority     control's CA, believed only if its fingerprint is the token's
POST /v1/enrolments    signing request and secret, over TLS verified against that CA → certificate
"""

from __future__ import annotations

import ssl

import httpx

from archipel.security import JoinToken, fingerprint
from archipel.spec import ArchipelError, LinkError, SpecError, TrustError, decode, encode
from archipel.spec.wire import Certificate, Enrolment, Failure

AUTHORITY_PATH = "/v1/authority"
ENROLMENTS_PATH = "/v1/enrolments"
_SECONDS = 30.0
"""A request that takes longer has failed; joining is one short exchange that a person watches."""


def enrol(token: JoinToken, request: str) -> Certificate:
    """Send a signing request with the token's secret; return the certificate.

    Raises:
        TrustError: control is not the one the token was issued by, or it does not take the token.
        LinkError: control cannot be reached.
    """
    enrolment = Enrolment(site=token.site, secret=token.secret, csr_pem=request)
    with _named_errors(token.control):
        authority = fetch_authority(token.control, token.ca)
        trust = ssl.create_default_context(cadata=authority)
        with httpx.Client(verify=trust, timeout=_SECONDS, trust_env=False) as client:
            answer = client.post(token.control + ENROLMENTS_PATH, content=encode(enrolment))
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        raise _refusal(answer)
    return decode(answer.content, Certificate)


def fetch_authority(control: str, ca: str) -> str:
    """Fetch control's CA certificate (PEM); what vouches for it is the fingerprint `ca`, not this connection.

    Raises:
        TrustError: another CA stands there.
    """
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    with httpx.Client(verify=unverified, timeout=_SECONDS, trust_env=False) as client:
        answer = client.get(control + AUTHORITY_PATH)
    answer.raise_for_status()
    try:
        found = fingerprint(answer.text)
    except ValueError:
        found = "none"
    if found != ca:
        hint = "check address and fingerprint with whoever gave them to you: something else answers there"
        raise TrustError(f"{control} is not the control plane that was meant", hint=hint)
    return answer.text


def _refusal(answer: httpx.Response) -> ArchipelError:
    try:
        return decode(answer.content, Failure).as_error()
    except SpecError:
        return LinkError(f"control answered {answer.status_code}", hint="is this the address of a control plane?")


class _named_errors:  # noqa: N801 (a context manager, used like a function)
    """Turn httpx's errors into a LinkError that names control."""

    def __init__(self, control: str) -> None:
        self._control = control

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.HTTPError):
            hint = "is control running, and is its port open from here?"
            raise LinkError(f"{self._control} cannot be reached: {error}", hint=hint) from error
