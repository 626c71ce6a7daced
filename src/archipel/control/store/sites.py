"""Rows about sites: who joined, with which certificates, holding which data sets, serving what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from archipel.control.store.tables import certificates, datasets, invitations, sites
from archipel.spec import DatasetManifest, ServedModel, decode, encode


def add_invitation(connection: Connection, site: str, secret_hash: str, expires_at: float) -> None:
    """Remember an invitation."""
    values = {"site": site, "secret_hash": secret_hash, "expires_at": expires_at}
    connection.execute(insert(invitations).values(**values))


def invitation_by_secret(connection: Connection, secret_hash: str) -> Row[Any] | None:
    """Return the invitation with this secret."""
    return connection.execute(select(invitations).where(invitations.c.secret_hash == secret_hash)).first()


def latest_invitation(connection: Connection, site: str) -> Row[Any] | None:
    """Return the newest invitation of a site."""
    newest = select(invitations).where(invitations.c.site == site).order_by(invitations.c.id.desc()).limit(1)
    return connection.execute(newest).first()


def use_invitation(connection: Connection, invitation: int, csr_digest: str, now: float) -> None:
    """The invitation is spent on this signing request."""
    values = {"used_at": now, "csr_digest": csr_digest}
    connection.execute(update(invitations).where(invitations.c.id == invitation).values(**values))


def withdraw_invitations(connection: Connection, site: str) -> None:
    """No token made for the site until now lets anybody in, the one it joined with included."""
    connection.execute(delete(invitations).where(invitations.c.site == site))


def add_site(connection: Connection, name: str, now: float) -> None:
    """Remember a site; joining again keeps what is known."""
    if not has_site(connection, name):
        connection.execute(insert(sites).values(name=name, joined_at=now))


def has_site(connection: Connection, name: str) -> bool:
    """Has the site joined?"""
    return connection.execute(select(sites.c.name).where(sites.c.name == name)).first() is not None


def add_certificate(connection: Connection, serial: str, site: str, expires_at: float) -> None:
    """Remember an issued certificate."""
    connection.execute(insert(certificates).values(serial=serial, site=site, expires_at=expires_at))


def certificate(connection: Connection, serial: str) -> Row[Any] | None:
    """Return an issued certificate."""
    return connection.execute(select(certificates).where(certificates.c.serial == serial)).first()


def certificates_of(connection: Connection) -> dict[str, float]:
    """Return, for each site, when its newest valid certificate ends."""
    rows = connection.execute(
        select(certificates.c.site, certificates.c.expires_at)
        .where(certificates.c.revoked_at.is_(None))
        .order_by(certificates.c.expires_at)
    )
    return {row.site: row.expires_at for row in rows}


def revoke_certificates(connection: Connection, site: str, now: float) -> int:
    """No certificate of the site is valid any more; return how many were."""
    live = (certificates.c.site == site) & certificates.c.revoked_at.is_(None)
    return connection.execute(update(certificates).where(live).values(revoked_at=now)).rowcount


def greet(connection: Connection, site: str, agent: str, held: Iterable[str], now: float) -> None:
    """Note what a site says in its Hello; what is known of a data set it still holds is kept."""
    connection.execute(update(sites).where(sites.c.name == site).values(agent=agent, seen_at=now))
    names = set(held)
    known = set(connection.execute(select(datasets.c.dataset).where(datasets.c.site == site)).scalars())
    gone = known - names
    if gone:
        connection.execute(delete(datasets).where(datasets.c.site == site, datasets.c.dataset.in_(gone)))
    for name in sorted(names - known):
        connection.execute(insert(datasets).values(site=site, dataset=name, seen_at=now))


def note_seen(connection: Connection, site: str, serving: tuple[ServedModel, ...], now: float) -> None:
    """Note when a site was last seen and what it serves."""
    values = {"seen_at": now, "serving": encode(serving).decode()}
    connection.execute(update(sites).where(sites.c.name == site).values(**values))


def note_manifest(connection: Connection, site: str, manifest: DatasetManifest, now: float) -> None:
    """Keep what a check found."""
    here = (datasets.c.site == site) & (datasets.c.dataset == manifest.dataset)
    connection.execute(update(datasets).where(here).values(manifest=encode(manifest).decode(), seen_at=now))


def all_sites(connection: Connection) -> list[Row[Any]]:
    """Return every site, by name."""
    return list(connection.execute(select(sites).order_by(sites.c.name)))


def all_datasets(connection: Connection) -> dict[str, dict[str, DatasetManifest | None]]:
    """Return site → data set → manifest as last checked."""
    found: dict[str, dict[str, DatasetManifest | None]] = {}
    for row in connection.execute(select(datasets).order_by(datasets.c.site, datasets.c.dataset)):
        manifest = None if row.manifest is None else decode(row.manifest.encode(), DatasetManifest)
        found.setdefault(row.site, {})[row.dataset] = manifest
    return found


def served_by(row: Row[Any]) -> tuple[ServedModel, ...]:
    """Return what a row of `sites` says is served there."""
    return () if row.serving is None else decode(row.serving.encode(), tuple[ServedModel, ...])
