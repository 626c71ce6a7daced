"""Sites' inventories: the newest of each, and a history in bounds.

An inventory that differs from the one before in more than its load is a new entry at once; one that does not, only once
the one before is a quarter of an hour old. Only so many entries of a site are kept.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from archipel.control.store import inventories as rows
from archipel.control.store.database import Database
from archipel.spec import SpecError, encode
from archipel.spec.inventory import SiteInventory

LONGEST_INVENTORY_BYTES = 64 * 1024
INVENTORIES_KEPT = 500
"""Of one site; the oldest go first."""
_LOAD_SECONDS = 900.0


class Inventories:
    """Keeps what sites say they have; safe for several threads."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def keep(self, site: str, inventory: SiteInventory) -> None:
        """Keep an inventory, if it says something new.

        Raises:
            SpecError: it is too long.
        """
        if len(encode(inventory)) > LONGEST_INVENTORY_BYTES:
            hint = f"an inventory has at most {LONGEST_INVENTORY_BYTES} bytes"
            raise SpecError("the inventory is too long", hint=hint)

        def change(connection: Connection) -> None:
            before = rows.of_site(connection, site, most=1)
            if before and inventory.is_like(before[0]) and inventory.at - before[0].at < _LOAD_SECONDS:
                return
            rows.add(connection, site, inventory, self._clock())
            rows.prune(connection, site, INVENTORIES_KEPT)

        self._database.write(change)

    def history(self, site: str) -> tuple[SiteInventory, ...]:
        """Return a site's inventories, newest first."""
        return self._database.read(lambda connection: rows.of_site(connection, site, INVENTORIES_KEPT))

    def newest(self) -> dict[str, SiteInventory]:
        """Return site → its newest inventory."""
        return self._database.read(rows.newest)
