"""Who still needs a blob: what is dropped from the store, when, and who waits for it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from archipel.control.store.holdings import Holdings
from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.spec import LinkError


class Store(Artefacts):
    """Notes what it is asked to drop; can be away, or take its time."""

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.away = False
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def drop(self, digest: str) -> None:
        self.asked.set()
        assert self.go_on.wait(30)
        if self.away:
            raise LinkError("the artefact store is away", hint="check its address")
        self.dropped.append(digest)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def holdings(tmp_path: Path, store: Store) -> Holdings:
    return Holdings(Spool(tmp_path), store)


def test_only_what_was_put_into_the_store_is_dropped_from_it_and_by_its_last_holder(
    holdings: Holdings, store: Store
) -> None:
    holdings.hold("a", ["sha256:model"])
    holdings.hold("b", ["sha256:model"])
    holdings.hold("a", ["sha256:update"], stored=False)
    holdings.let_go("a", ["sha256:model", "sha256:update"])
    holdings.drop_left()
    assert store.dropped == []
    holdings.let_go("b", ["sha256:model"])
    assert store.dropped == [], "letting go sends no request"
    holdings.drop_left()
    assert store.dropped == ["sha256:model"]


def test_bytes_that_a_site_sends_and_that_are_in_the_store_as_well_are_dropped_from_it(
    holdings: Holdings, store: Store
) -> None:
    holdings.hold("a", ["sha256:model"])
    holdings.hold("a", ["sha256:model"], stored=False)
    holdings.let_go("a", ["sha256:model"])
    holdings.drop_left()
    assert store.dropped == ["sha256:model"]


def test_what_could_not_be_dropped_is_dropped_later_unless_it_is_held_again(holdings: Holdings, store: Store) -> None:
    holdings.hold("a", ["sha256:1", "sha256:2"])
    holdings.let_go("a", ["sha256:1", "sha256:2"])
    store.away = True
    holdings.drop_left()
    store.away = False
    holdings.hold("b", ["sha256:1"], stored=False)
    holdings.drop_left()
    assert store.dropped == ["sha256:2"]
    holdings.let_go("b", ["sha256:1"])
    holdings.drop_left()
    assert store.dropped == ["sha256:2", "sha256:1"]


def test_a_slow_store_holds_nobody_up_but_who_wants_the_very_blob_that_is_being_dropped(
    holdings: Holdings, store: Store
) -> None:
    holdings.hold("a", ["sha256:1"])
    holdings.let_go("a", ["sha256:1"])
    store.go_on.clear()
    dropping = threading.Thread(target=holdings.drop_left)
    dropping.start()
    assert store.asked.wait(30)
    holdings.hold("b", ["sha256:2"])
    assert holdings.held_by("b") == {"sha256:2"}
    held: list[list[str]] = []

    def hold_the_same() -> None:
        holdings.hold("c", ["sha256:1"])
        held.append(list(store.dropped))

    wanting = threading.Thread(target=hold_the_same)
    wanting.start()
    store.go_on.set()
    wanting.join(30)
    dropping.join(30)
    assert held == [["sha256:1"]], "what is put into the store from now on stays there"
