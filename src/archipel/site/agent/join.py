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

from collections.abc import Mapping
from pathlib import Path

from archipel.security import (
    JoinToken,
    fingerprint,
    load_or_make_key,
    read_token,
    signing_request,
    site_of,
    write_secret,
)
from archipel.security.tokens import hash_of
from archipel.site.agent.folder import Identity, SiteFolder
from archipel.site.journal import Journal
from archipel.spec import (
    DataError,
    StateError,
    TrustError,
    failpoint,
)


def join(token_text: str, path: Path, datasets: Mapping[str, Path], *, now: float) -> Identity:
    """Make the folder `path` the site of the token, holding `datasets`; return who it now is.

    Raises:
        TrustError: the token is wrong, used, expired, or control is not the one the token was issued by.
        LinkError: control cannot be reached.
        DataError: a data set is not there.
        StateError: the folder is another site's.
    """
    token = read_token(token_text)
    _require_there(datasets)
    folder = SiteFolder(path)
    with folder.locked():
        identity = _enrolled(folder, token, now)
        _register(folder, datasets)
    return identity


def register(path: Path, datasets: Mapping[str, Path]) -> None:
    """Tell the site that has joined in the folder `path` where data sets are now; no agent may run on it.

    Raises:
        DataError: a data set is not there.
        StateError: no site has joined there, or an agent runs on it.
    """
    _require_there(datasets)
    folder = SiteFolder(path)
    folder.require_identity()
    with folder.locked():
        _register(folder, datasets)


def _require_there(datasets: Mapping[str, Path]) -> None:
    for name, place in datasets.items():
        if not place.exists():
            raise DataError(
                f"data set {name!r}: there is nothing at {place}", hint="give the path of its folder or file"
            )


def _register(folder: SiteFolder, datasets: Mapping[str, Path]) -> None:
    journal = Journal(folder.journal)
    journal.register({name: place.absolute() for name, place in datasets.items()})
    journal.close()


def _enrolled(folder: SiteFolder, token: JoinToken, now: float) -> Identity:
    known = folder.identity()
    if known is not None and known.site != token.site:
        hint = "give each site a folder of its own"
        raise StateError(f"{folder.path} is the folder of site {known.site!r}, not {token.site!r}", hint=hint)
    if known is not None and _holds(known, token, now):
        return known
    from archipel.site.link.enrolment import enrol  # noqa: PLC0415 (its HTTP client is a third of an agent's start)

    request = _signing_request(folder, token.site)
    failpoint("site.join.after_request")
    certificate = enrol(token, request)
    failpoint("site.join.before_identity")
    if site_of(certificate.certificate_pem) != token.site:
        raise TrustError("control certified another name than asked for", hint="report this: it is a fault")
    identity = Identity(
        site=token.site, control=token.control, certificate=certificate, joined_with=hash_of(token.secret)
    )
    folder.become(identity)
    failpoint("site.join.after_identity")
    return identity


def _holds(known: Identity, token: JoinToken, now: float) -> bool:
    """Has this very joining been done already?"""
    _, ends = known.validity()
    same = (fingerprint(known.certificate.ca_pem), known.joined_with) == (token.ca, hash_of(token.secret))
    return same and now < ends.timestamp()


def _signing_request(folder: SiteFolder, site: str) -> str:
    key = load_or_make_key(folder.key)
    failpoint("site.join.after_key")
    if not folder.request.exists():
        write_secret(folder.request, signing_request(key, site).encode())
    return folder.request.read_text()
