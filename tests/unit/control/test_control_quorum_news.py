"""What runs by quorum hear of their sites, by a clock the test holds: lost, found again, never come, and once each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from archipel.site.link.protocol import PutStart
from archipel.spec import Blob, LinkError, digest_of
from archipel.spec.wire import Offer
from unit.control.control_stage import NAMES, Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as closing:
        yield Stage(tmp_path, closing)


def test_a_named_site_that_is_absent_at_the_start_is_lost_when_it_has_not_come_within_a_lease(stage: Stage) -> None:
    stage.enter("coral", "lagoon")
    driver = stage.start()
    stage.wait(29.0, "coral", "lagoon")
    assert stage.lost(driver) == ()
    stage.wait(2.0, "coral", "lagoon")
    assert stage.lost(driver) == ("reef",)
    stage.enter("reef")
    stage.house.runs.here("reef")
    assert stage.lost(driver) == ()


def test_a_named_site_that_was_lost_before_the_start_is_known_as_lost_at_once(stage: Stage) -> None:
    stage.enter(*NAMES)
    stage.wait(31.0, "coral", "lagoon")
    driver = stage.start()
    stage.wait(0.0)
    assert stage.lost(driver) == ("reef",)


async def test_a_site_lost_in_the_middle_of_an_upload_is_found_again_at_its_next_word(stage: Stage) -> None:
    stage.enter(*NAMES)
    driver = stage.start()
    certificate = stage.certificates["reef"]
    data = b"two pieces"
    offer = Offer(run=driver.run, blob=Blob(digest=digest_of(data), size_bytes=len(data)))

    async def slow() -> AsyncIterator[bytes]:
        yield data[:5]
        stage.wait(31.0, "coral", "lagoon")
        assert stage.lost(driver) == ("reef",)
        yield data[5:]

    done = await stage.house.sites_door.put(PutStart(offer=offer, offset=0), slow(), certificate)
    assert done.have_bytes == len(data)
    await stage.house.sites_door.offer(offer, certificate)
    assert stage.lost(driver) == ()


@pytest.mark.parametrize("absent", ["wait", "quorum"])
def test_whoever_watches_a_run_is_told_at_once_that_a_site_is_lost_or_back(stage: Stage, absent: str) -> None:
    stage.enter(*NAMES)
    driver = stage.start(absent=absent)
    seen = stage.house.notices.count(driver.run)
    stage.wait(0.25, *NAMES)
    assert stage.house.notices.count(driver.run) == seen
    stage.wait(31.0, "coral", "lagoon")
    lost = stage.house.notices.count(driver.run)
    assert lost > seen
    stage.house.attendances.touch("reef", stage.now)
    stage.house.runs.back("reef")
    assert stage.house.notices.count(driver.run) > lost


def test_a_database_that_is_away_for_a_moment_costs_no_run_the_news_of_any_site(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.enter(*NAMES)
    driver = stage.start()

    def away(*_: Any) -> Any:
        raise LinkError("the database cannot be reached", hint="check the server")

    with monkeypatch.context() as patch:
        patch.setattr(stage.house.database, "write", away)
        with pytest.raises(LinkError):
            stage.wait(31.0, "coral")
    stage.wait(0.25)
    assert stage.lost(driver) == ("lagoon", "reef")
    said = [item.event for item in stage.house.log.read().events]
    assert sorted(str(event.site) for event in said if event.what == "site.lost") == ["lagoon", "reef"]


def test_a_site_found_again_while_the_database_is_away_is_told_as_soon_as_it_is_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.enter(*NAMES)
    driver = stage.start()
    stage.wait(31.0, "coral", "lagoon")

    def away(*_: Any) -> Any:
        raise LinkError("the database cannot be reached", hint="check the server")

    with monkeypatch.context() as patch:
        patch.setattr(stage.house.database, "write", away)
        assert stage.house.attendances.touch("reef", stage.now)
        with pytest.raises(LinkError):
            stage.house.runs.back("reef")
    stage.wait(0.25)
    assert stage.lost(driver) == ()
