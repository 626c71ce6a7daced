"""The state of a run in the database, where two things happen to it at once or one happens twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from archipel.control.api.house import House
from archipel.control.services.rounds.runs import RETRY_SECONDS
from archipel.control.services.sites.presence import Attendance
from archipel.control.settings import Settings
from archipel.control.store import journal
from archipel.control.store import runs as rows
from archipel.spec import LinkError, StorageFullError
from archipel.spec.wire import Working
from unit.control.control_house import Home
from unit.control.control_plane import make_bundle, make_job
from unit.control.control_stage import NAMES, Stage


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with ExitStack() as closing:
        yield House.open(Settings(state=tmp_path / "state"), time.time, time.monotonic, closing)


def submitted(house: House, folder: Path) -> str:
    return Home(house, None, folder).start(make_job(federation={"min_sites": 2}), make_bundle(folder / "job"))  # type: ignore[arg-type]  # the operator is not asked


def test_a_run_that_begins_while_it_is_looked_at_does_not_wait_again(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submitted(house, tmp_path)
    assert house.standing.show(run).state == "waiting"
    for site in ("coral", "lagoon"):
        here = Attendance(site=site, send=lambda _: None, seen=time.monotonic(), datasets=("birds",))
        house.attendances.enter(here)

    def one_of_two(_: str) -> tuple[str, ...]:
        monkeypatch.undo()
        house.runs.begin(run)  # the other site's thread is quicker
        return ("coral",)

    monkeypatch.setattr(house.fleet, "present_holders", one_of_two)
    house.runs.begin(run)
    view = house.standing.show(run)
    assert (view.state, view.message) == ("running", "")


def test_a_run_that_fails_after_its_end_and_is_resumed_ends_finished_as_of_its_first_end(
    house: House, tmp_path: Path
) -> None:
    run = submitted(house, tmp_path)
    house.database.write(lambda connection: rows.end_run(connection, run, 10.0))
    house.database.write(lambda connection: rows.mark_run(connection, run, "running"))  # failed at tidying; resumed
    house.database.write(lambda connection: rows.end_run(connection, run, 20.0))
    view = house.standing.show(run)
    assert (view.state, view.ended_at) == ("finished", 10.0)


def test_who_watches_a_paused_run_is_told_when_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageFullError("the database has no space", hint="free some space")

    with ExitStack() as closing:
        stage = Stage(tmp_path, closing)
        stage.enter(*NAMES)
        driver = stage.start()
        with monkeypatch.context() as patch:
            patch.setattr(stage.house.database, "write", full)
            with pytest.raises(StorageFullError):
                stage.house.runs.stop(driver.run, "operator/t")
        assert stage.house.standing.show(driver.run).state == "paused"
        seen = stage.house.notices.count(driver.run)
        stage.wait(RETRY_SECONDS, *NAMES)
        assert stage.house.standing.show(driver.run).state == "running"
        assert stage.house.notices.count(driver.run) > seen


def test_a_run_whose_start_meets_a_database_that_is_away_waits_and_begins_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise LinkError("the database cannot be reached", hint="check the server")

    with ExitStack() as closing:
        stage = Stage(tmp_path, closing)
        stage.enter(*NAMES)
        with monkeypatch.context() as patch:
            patch.setattr(journal, "replay", away)
            with pytest.raises(LinkError):
                stage.start()
        [view] = stage.house.standing.list().runs
        assert view.state == "waiting"
        stage.house.runs.here("reef")
        assert stage.house.standing.show(view.id).state == "running"


def test_every_site_that_is_waited_for_is_shown_as_working(tmp_path: Path) -> None:
    names = [f"site-{number:02d}" for number in range(25)]
    with ExitStack() as closing:
        stage = Stage(tmp_path, closing)
        stage.enter(*names)
        run = stage.home.start(make_job(), stage.bundle)
        assert {site.status for site in stage.house.standing.progress(run).sites} == {"working"}


def test_a_site_that_waits_by_its_own_policy_is_shown_as_that_until_it_begins(tmp_path: Path) -> None:
    with ExitStack() as closing:
        stage = Stage(tmp_path, closing)
        stage.enter(*NAMES)
        driver = stage.start()
        here = stage.house.attendances.get(NAMES[0])
        assert here is not None
        shown = []
        for waits in ("approval", ""):
            here.working = (Working(run=driver.run, round=0, done=0.0, waits=waits),)  # type: ignore[arg-type]
            sites = {site.site: site for site in stage.house.standing.progress(driver.run).sites}
            shown.append([sites[name].waits for name in NAMES])
            assert {site.status for site in sites.values()} == {"working"}
        assert shown == [["approval", *[""] * (len(NAMES) - 1)], [""] * len(NAMES)]


def test_a_run_stopped_while_it_is_about_to_begin_stays_stopped(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submitted(house, tmp_path)

    def stopped_meanwhile(_: str) -> tuple[str, ...]:
        house.runs.stop(run, "operator/t")
        return ("coral", "lagoon")

    monkeypatch.setattr(house.fleet, "present_holders", stopped_meanwhile)
    house.runs.begin(run)
    assert house.standing.show(run).state == "stopped"
    assert house.runs.find(run) is None
