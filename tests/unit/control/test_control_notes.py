"""A site's notes: kept under its own name and in bounds, however many it sends and over however many streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from archipel.control.services.audit import EventLog
from archipel.control.services.sites.notes import LONGEST_NOTE_BYTES, NOTES_AN_HOUR, Notes
from archipel.control.store.database import Database
from archipel.control.store.schema import upgrade
from archipel.spec import Event, SpecError
from archipel.spec.wire import Note

LOW = Note(what="site.disk.low", level="warning", run="r1", detail={"free_bytes": 7, "actor": "control"})


class Stage:
    def __init__(self, database: Database) -> None:
        self.now = 50.0
        self.log = EventLog(database, lambda: 1_000.0)
        self.notes = Notes(self.log, lambda: self.now)

    def kept(self, site: str) -> list[Event]:
        return [item.event for item in self.log.read(site=site).events]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    database = Database.open(f"sqlite:///{tmp_path}/control.db")
    upgrade(database)
    yield Stage(database)
    database.close()


def test_a_note_is_an_event_of_the_site_whatever_its_facts_are_called(stage: Stage) -> None:
    stage.notes.keep("coral", LOW)
    [event] = stage.kept("coral")
    assert (event.at, event.what, event.actor, event.level) == (1_000.0, "site.disk.low", "site/coral", "warning")
    assert (event.run, event.site, event.detail) == ("r1", "coral", LOW.detail)


def test_of_a_site_that_does_not_stop_so_many_notes_an_hour_are_kept_and_one_word_that_the_rest_is_dropped(
    stage: Stage,
) -> None:
    for _ in range(3 * NOTES_AN_HOUR):
        stage.notes.keep("coral", LOW)
    said = [event.what for event in stage.kept("coral")]
    assert said == ["site.disk.low"] * NOTES_AN_HOUR + ["site.notes.dropped"]
    last = stage.kept("coral")[-1]
    assert (last.actor, last.level, last.detail) == ("control", "warning", {"kept_an_hour": NOTES_AN_HOUR})
    stage.notes.keep("reef", LOW)
    assert len(stage.kept("reef")) == 1, "another site has its own hour"


def test_the_next_hour_is_granted_anew_and_not_a_second_earlier(stage: Stage) -> None:
    for _ in range(NOTES_AN_HOUR + 1):
        stage.notes.keep("coral", LOW)
    before = len(stage.kept("coral"))
    stage.now += 3599.0
    stage.notes.keep("coral", LOW)
    assert len(stage.kept("coral")) == before
    stage.now += 1.0
    stage.notes.keep("coral", LOW)
    assert len(stage.kept("coral")) == before + 1


def test_a_note_that_is_too_long_is_refused_and_not_kept(stage: Stage) -> None:
    with pytest.raises(SpecError, match="too long") as caught:
        stage.notes.keep("coral", Note(what="site.disk", detail={"what": "x" * LONGEST_NOTE_BYTES}))
    assert caught.value.hint
    assert stage.kept("coral") == []
