"""Who may join, and who is who: invitations, certificates, and the name behind a certificate.

    invite(site)       → a token, one use, one hour           (the operator hands it over)
    enrol(enrolment)   → a certificate for the site's own key
    renew(site, csr)   → a fresh one, asked for with the present one
    require(pem)       → the site that calls, or a TrustError

A spent token still answers the very signing request that spent it: a site whose answer was lost may ask again,
and nobody else gains anything, for the certificate fits its key only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from cryptography import x509
from sqlalchemy import Connection, Row

from archipel.control.services.audit import EventLog, keep_within
from archipel.control.store import sites as rows
from archipel.control.store.database import Database
from archipel.security import Authority, Invitation, check, expiry_of, issue, site_of
from archipel.security.tokens import LIFETIME_SECONDS, SECRET_BYTES, hash_of
from archipel.spec import TrustError, digest_of, failpoint
from archipel.spec.views import InvitationView
from archipel.spec.wire import Certificate, Enrolment


class Enrolments:
    """Lets sites in and knows them again."""

    def __init__(self, database: Database, log: EventLog, authority: Authority, clock: Callable[[], float]) -> None:
        self._database = database
        self._log = log
        self._authority = authority
        self._clock = clock
        self._known: dict[bytes, tuple[str, float]] = {}

    def invite(self, site: str, control_url: str, actor: str, random: Callable[[int], bytes]) -> InvitationView:
        """Make a join token for a site (known or new)."""
        now = self._clock()
        token, stored = issue(
            site,
            control_url,
            self._authority.fingerprint,
            secret=random(SECRET_BYTES),
            now=now,
            lifetime_seconds=LIFETIME_SECONDS,
        )
        said = self._log.event("site.invited", actor=actor, site=site, expires_at=stored.expires_at)

        def change(connection: Connection) -> None:
            rows.add_invitation(connection, site, stored.secret_hash, stored.expires_at)
            keep_within(connection, said)

        self._database.write(change)
        return InvitationView(site=site, token=token, expires_at=stored.expires_at)

    def enrol(self, enrolment: Enrolment, sites_address: str) -> Certificate:
        """Spend a token and certify the site's key.

        Raises:
            TrustError: the token is wrong, used, expired or another site's; or the request is not valid. A stranger
                who has no token costs a look and leaves no signature and no lock on the site's token; the door notes
                that somebody was refused.
        """
        now = self._clock()
        self._database.read(lambda connection: _require_token(connection, enrolment, now))
        pem = self._authority.certify_site(enrolment.site, enrolment.csr_pem, _utc(now))
        said = self._log.event("site.joined", actor=f"site/{enrolment.site}", site=enrolment.site)

        def change(connection: Connection) -> None:
            token = _require_token(connection, enrolment, now)
            rows.use_invitation(connection, token.id, _digest(enrolment), now)
            rows.add_site(connection, enrolment.site, now)
            _remember(connection, enrolment.site, pem)
            keep_within(connection, said)

        self._database.write(change)
        failpoint("control.enrol.after_commit")
        return Certificate(certificate_pem=pem, ca_pem=self._authority.pem, sites_address=sites_address)

    def renew(self, site: str, csr_pem: str, sites_address: str) -> Certificate:
        """Certify a fresh key (or the same) of a site that has proved its name."""
        pem = self._authority.certify_site(site, csr_pem, _utc(self._clock()))

        def change(connection: Connection) -> None:
            if site not in rows.certificates_of(connection):
                raise _revoked(site)  # since the caller was let in
            _remember(connection, site, pem)

        self._database.write(change)
        self._log.write("site.renewed", actor=f"site/{site}", site=site)
        return Certificate(certificate_pem=pem, ca_pem=self._authority.pem, sites_address=sites_address)

    def known(self, certificate_pem: bytes) -> str | None:
        """Return the site without a question to the database; None where there has to be one."""
        found = self._known.get(certificate_pem)
        return None if found is None or self._clock() > found[1] else found[0]

    def require(self, certificate_pem: bytes) -> str:
        """Return the site whose certificate this is (TLS has verified it against our CA).

        Raises:
            TrustError: it names no site, was not issued here, has expired or was revoked.
        """
        known = self._known  # taken before the look: `revoke` puts another in its place
        site, expires_at = self._look_up(certificate_pem)
        if self._clock() > expires_at:
            hint = f"ask for `archipel invite {site}`, then join again"
            raise TrustError(f"the certificate of {site} has expired", hint=hint)
        known[certificate_pem] = (site, expires_at)
        return site

    def revoke(self, site: str, actor: str) -> int:
        """From now on no certificate or token of the site is taken; return how many certificates were valid."""
        now = self._clock()

        def change(connection: Connection) -> int:
            count = rows.revoke_certificates(connection, site, now)
            rows.withdraw_invitations(connection, site)
            keep_within(connection, self._log.event("site.revoked", actor=actor, site=site, certificates=count))
            return count

        count = self._database.write(change)
        self._known = {pem: known for pem, known in dict(self._known).items() if known[0] != site}
        return count

    def _look_up(self, certificate_pem: bytes) -> tuple[str, float]:
        site = site_of(certificate_pem)
        serial = _serial(certificate_pem)
        row = self._database.read(lambda connection: rows.certificate(connection, serial))
        hint = f"ask for `archipel invite {site}`, then join again"
        if row is None or row.site != site:
            raise TrustError(f"no certificate {serial} was issued to {site}", hint=hint)
        if row.revoked_at is not None:
            raise _revoked(site)
        return site, row.expires_at


def _revoked(site: str) -> TrustError:
    hint = f"ask for `archipel invite {site}`, then join again"
    return TrustError(f"the certificate of {site} was revoked", hint=hint)


def _require_token(connection: Connection, enrolment: Enrolment, now: float) -> Row[Any]:
    """Return the invitation that the secret opens; a TrustError says why there is none."""
    row = rows.invitation_by_secret(connection, hash_of(enrolment.secret))
    found = row or rows.latest_invitation(connection, enrolment.site)
    if found is None:
        hint = f"ask for one: `archipel invite {enrolment.site}`"
        raise TrustError(f"no token was issued for {enrolment.site}", hint=hint)
    spent = found.used_at is not None and found.csr_digest != _digest(enrolment)
    invitation = Invitation(site=found.site, secret_hash=found.secret_hash, expires_at=found.expires_at, used=spent)
    check(invitation, enrolment.site, enrolment.secret, now)
    return found


def _digest(enrolment: Enrolment) -> str:
    return digest_of(enrolment.csr_pem.encode())


def _remember(connection: Connection, site: str, pem: str) -> None:
    _, until = expiry_of(pem)
    rows.add_certificate(connection, _serial(pem.encode()), site, until.timestamp())


def _serial(pem: bytes) -> str:
    return f"{x509.load_pem_x509_certificate(pem).serial_number:x}"


def _utc(now: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(now, dt.UTC)
