"""Rows of sites' inventories: what each has to work with, and had."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select

from archipel.control.store.tables import inventories
from archipel.spec import decode, encode
from archipel.spec.inventory import SiteInventory


def add(connection: Connection, site: str, inventory: SiteInventory, now: float) -> None:
    """Keep an inventory."""
    connection.execute(insert(inventories).values(site=site, at=now, value=encode(inventory).decode()))


def of_site(connection: Connection, site: str, most: int) -> tuple[SiteInventory, ...]:
    """Return a site's inventories, newest first."""
    mine = select(inventories.c.value).where(inventories.c.site == site).order_by(inventories.c.id.desc()).limit(most)
    return tuple(decode(value.encode(), SiteInventory) for value in connection.execute(mine).scalars())


def newest(connection: Connection) -> dict[str, SiteInventory]:
    """Return site → its newest inventory."""
    last = select(func.max(inventories.c.id)).group_by(inventories.c.site)
    rows = connection.execute(select(inventories.c.site, inventories.c.value).where(inventories.c.id.in_(last)))
    return {row.site: decode(row.value.encode(), SiteInventory) for row in rows}


def prune(connection: Connection, site: str, keep: int) -> None:
    """Drop all of a site's inventories but the newest."""
    mine = inventories.c.site == site
    oldest = select(inventories.c.id).where(mine).order_by(inventories.c.id.desc()).limit(1).offset(keep - 1)
    connection.execute(delete(inventories).where(mine, inventories.c.id < oldest.scalar_subquery()))
