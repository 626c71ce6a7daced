"""Sites' inventories at control: news at once, load now and then, and a history in bounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from archipel.control.services.sites import inventories as service
from archipel.control.services.sites.inventories import LONGEST_INVENTORY_BYTES, Inventories
from archipel.control.store import sites
from archipel.control.store.database import Database
from archipel.control.store.schema import upgrade
from archipel.site.link.dial import dial
from archipel.spec import SpecError, decode
from archipel.spec.device import Capabilities, Device, DeviceReport, Figure, Health
from archipel.spec.inventory import Load, SiteInventory
from archipel.spec.views import InventoriesPage, InventoryHistory
from archipel.spec.wire import Hello
from unit.control.control_house import at_home

FIRST = SiteInventory(at=100.0, cores=2, memory_bytes=8_000, load=Load(cores=0.1, memory_available_bytes=4_000))


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Inventories]:
    database = Database.open(f"sqlite:///{tmp_path}/control.db")
    upgrade(database)
    for site in ("coral", "reef"):
        database.write(lambda connection, site=site: sites.add_site(connection, site, 0.0))  # type: ignore[misc]
    yield Inventories(database, lambda: 1.0)
    database.close()


def later(seconds: float, **changes: object) -> SiteInventory:
    return msgspec.structs.replace(FIRST, at=FIRST.at + seconds, **changes)


def test_what_is_new_is_kept_at_once_and_only_a_load_waits(kept: Inventories) -> None:
    kept.keep("coral", FIRST)
    kept.keep("coral", later(1, load=Load(cores=2.0, memory_available_bytes=1)))
    assert kept.history("coral") == (FIRST,)
    more = later(2, cores=4)
    kept.keep("coral", more)
    assert kept.history("coral") == (more, FIRST)
    much_later = later(1000, cores=4, load=Load(cores=2.0, memory_available_bytes=1))
    kept.keep("coral", much_later)
    assert kept.history("coral") == (much_later, more, FIRST)
    assert kept.newest() == {"coral": much_later}


def test_each_site_has_a_history_of_its_own_and_the_oldest_entries_go(
    kept: Inventories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "INVENTORIES_KEPT", 3)
    kept.keep("reef", FIRST)
    for cores in range(1, 8):
        kept.keep("coral", later(cores, cores=cores))
    assert [one.cores for one in kept.history("coral")] == [7, 6, 5]
    assert kept.history("reef") == (FIRST,)
    assert set(kept.newest()) == {"coral", "reef"}


def test_one_that_is_too_long_is_refused(kept: Inventories) -> None:
    device = Device(
        name="cpu", kind="cpu", adapter="numpy", model="m" * LONGEST_INVENTORY_BYTES, label="executed", backing="b"
    )
    report = DeviceReport(
        device=device,
        capabilities=Capabilities(memory=Figure(value=1.0, source="reported", how="h")),
        health=Health(state="ok"),
        measured_at=0.0,
    )
    with pytest.raises(SpecError, match="too long"):
        kept.keep("coral", later(0, devices=(report,)))
    assert kept.history("coral") == ()


async def test_what_a_site_says_it_has_is_shown_to_people_under_its_own_name(tmp_path: Path) -> None:
    async with at_home(tmp_path) as home, dial(home.address, home.credentials("coral")) as link:
        home.credentials("reef")
        attendance = await link.attend(Hello(site="coral", agent="t"))
        await attendance.send(FIRST)
        await attendance.send(later(1, cores=4))
        await attendance.send(Hello(site="coral", agent="t"))
        with pytest.raises(SpecError, match="said once"):  # so all before it was heard
            async for _ in attendance:
                pass
        async with home.client() as client:
            history = decode((await client.get("/v1/sites/coral/inventory")).content, InventoryHistory)
            assert [one.cores for one in history.inventories] == [4, 2]
            nothing = decode((await client.get("/v1/sites/reef/inventory")).content, InventoryHistory)
            assert nothing.inventories == ()
            newest = decode((await client.get("/v1/inventories")).content, InventoriesPage)
            assert {site: one.cores for site, one in newest.sites.items()} == {"coral": 4}
            assert (await client.get("/v1/sites/nobody/inventory")).status_code == 404
