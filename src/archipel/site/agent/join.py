"""Join: make a key here, prove the right to a name with a token, and receive a certificate for it.

    1. the key (0600) and its signing request are made in the site's folder
    2. control's CA is fetched and believed only if its fingerprint is the token's
    3. the request and the token's secret go to control over TLS verified against that CA
    4. name, addresses and certificate are stored in one step

Each step can be repeated: after a crash anywhere, `join` with the same token goes on. The signing request is sent
again byte for byte, by which control knows a lost answer from a stolen token.

Example:
    join(token, Path("/srv/archipel"), {"birds": Path("/data/birds.csv")}, now=time.time())
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx

from archipel.security import (
    JoinToken,
    fingerprint,
    load_or_make_key,
    read_token,
    signing_request,
    site_of,
    write_secret,
)
from archipel.site.agent.folder import Identity, SiteFolder
from archipel.site.journal import Journal
from archipel.site.link.protocol import error_from
from archipel.spec import (
    ArchipelError,
    DataError,
    LinkError,
    SpecError,
    StateError,
    TrustError,
    decode,
    encode,
    failpoint,
)
from archipel.spec.wire import Certificate, Enrolment, Failure

AUTHORITY_PATH = "/v1/authority"
ENROLMENTS_PATH = "/v1/enrolments"
_SECONDS = 30.0
"""A request that takes longer has failed; joining is one short exchange that a person watches."""


def join(token_text: str, path: Path, datasets: Mapping[str, Path], *, now: float) -> Identity:
    """Make the folder `path` the site of the token, holding `datasets`; return who it now is.

    Raises:
        TrustError: the token is wrong, used, expired, or control is not the one the token was issued by.
        LinkError: control cannot be reached.
        DataError: a data set is not there.
        StateError: the folder is another site's.
    """
    token = read_token(token_text)
    for name, place in datasets.items():
        if not place.exists():
            raise DataError(
                f"data set {name!r}: there is nothing at {place}", hint="give the path of its folder or file"
            )
    folder = SiteFolder(path)
    with folder.locked():
        identity = _enrolled(folder, token, now)
        journal = Journal(folder.journal)
        journal.register({name: place.absolute() for name, place in datasets.items()})
        journal.close()
    return identity


def _enrolled(folder: SiteFolder, token: JoinToken, now: float) -> Identity:
    known = folder.identity()
    if known is not None and known.site != token.site:
        hint = "give each site a folder of its own"
        raise StateError(f"{folder.path} is the folder of site {known.site!r}, not {token.site!r}", hint=hint)
    if known is not None and _holds(known, token, now):
        return known
    request = _signing_request(folder, token.site)
    failpoint("site.join.after_request")
    certificate = _enrol(token, request)
    failpoint("site.join.before_identity")
    if site_of(certificate.certificate_pem) != token.site:
        raise TrustError("control certified another name than asked for", hint="report this: it is a fault")
    identity = Identity(site=token.site, control=token.control, certificate=certificate)
    folder.become(identity)
    failpoint("site.join.after_identity")
    return identity


def _holds(known: Identity, token: JoinToken, now: float) -> bool:
    """Has this very joining been done already?"""
    _, ends = known.validity()
    return fingerprint(known.certificate.ca_pem) == token.ca and now < ends.timestamp()


def _signing_request(folder: SiteFolder, site: str) -> str:
    key = load_or_make_key(folder.key)
    failpoint("site.join.after_key")
    if not folder.request.exists():
        write_secret(folder.request, signing_request(key, site).encode())
    return folder.request.read_text()


def _enrol(token: JoinToken, request: str) -> Certificate:
    enrolment = Enrolment(site=token.site, secret=token.secret, csr_pem=request)
    with _named_errors(token.control):
        authority = _authority(token)
        trust = ssl.create_default_context(cadata=authority)
        with httpx.Client(verify=trust, timeout=_SECONDS, trust_env=False) as client:
            answer = client.post(token.control + ENROLMENTS_PATH, content=encode(enrolment))
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        raise _refusal(answer)
    return decode(answer.content, Certificate)


def _authority(token: JoinToken) -> str:
    """Fetch control's CA certificate; what vouches for it is the token's fingerprint, not this connection."""
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    with httpx.Client(verify=unverified, timeout=_SECONDS, trust_env=False) as client:
        answer = client.get(token.control + AUTHORITY_PATH)
    answer.raise_for_status()
    try:
        found = fingerprint(answer.text)
    except ValueError:
        found = "none"
    if found != token.ca:
        hint = "check the address in the token with the operator: something else answers there"
        raise TrustError(f"{token.control} is not the control plane that issued the token", hint=hint)
    return answer.text


def _refusal(answer: httpx.Response) -> ArchipelError:
    try:
        return error_from(decode(answer.content, Failure))
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
