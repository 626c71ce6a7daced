"""The helper of secure sums, as control knows it: asked and followed like a site, and no site of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from archipel.federated.secure.vector import Prepared, manifest_of_sums
from archipel.spec import DatasetManifest, JobSpec, SpecError, UnknownNameError, Update, digest_of, encode
from archipel.spec.wire import Hello
from secure import HELPER, WITH_HELPER
from unit.control.control_plane import make_job
from unit.control.control_stage import NAMES, Stage

THREE = {"min_sites": 3, "rounds": 1}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as closing:
        stage = Stage(tmp_path, closing)
        stage.certificates[HELPER] = stage.home.credentials(HELPER).certificate_pem
        yield stage


def helped_job(**federation: Any) -> JobSpec:
    return make_job(federation=THREE | federation, privacy=WITH_HELPER)


def begin(stage: Stage, job: JobSpec) -> Any:
    return stage.house.runs.driver(stage.home.start(job, stage.bundle))


def until_the_helper_is_asked(stage: Stage, driver: Any) -> None:
    """Let the sites check their data, and say what they have to add to the statistics."""
    for site in NAMES:
        manifest = DatasetManifest(dataset="birds", digest=digest_of(site.encode()), size_bytes=1, rows=3)
        about = {"dataset": manifest, "metrics": {"statistics": 1.0}}
        assert stage.house.runs.submit(Update(run=driver.run, round=0, site=site, kind="check", **about))
    for site in NAMES:
        said = Prepared(certificate=stage.certificates[site].decode(), sums=manifest_of_sums({}))
        assert stage.house.runs.submit(
            Update(run=driver.run, round=1, site=site, kind="statistics", message=encode(said))
        )
    assert driver.task_for(HELPER).leg == "advertise"


def test_a_helper_that_holds_the_rows_too_is_no_site_of_the_run(stage: Stage) -> None:
    stage.enter(*NAMES, HELPER)
    driver = begin(stage, helped_job())
    assert (driver.sites, driver.parties) == (NAMES, (*NAMES, HELPER))
    for site in (*NAMES, HELPER):
        stage.house.fleet.greet(Hello(site=site, agent="test", datasets=("birds",)))
    plan = stage.house.office().planning.plan(helped_job())
    assert [share.site for share in plan.participants] == list(NAMES)
    assert plan.secure is not None
    assert (plan.secure.helper, plan.secure.quorum) == (HELPER, 3)


def test_it_is_asked_once_there_is_something_to_add_and_hears_of_the_end(stage: Stage) -> None:
    stage.enter(*NAMES, HELPER)
    driver = begin(stage, helped_job())
    assert driver.task_for(HELPER) is None
    until_the_helper_is_asked(stage, driver)
    assert [driver.task_for(site) for site in NAMES] == [None, None, None]


def test_who_watches_sees_the_helper_only_where_the_run_waits_for_it(stage: Stage) -> None:
    stage.enter(*NAMES)
    driver = begin(stage, helped_job())
    watched = stage.house.office().standing
    assert [site.site for site in watched.progress(driver.run).sites] == list(NAMES)
    until_the_helper_is_asked(stage, driver)
    waiting = watched.progress(driver.run).sites[-1]
    assert (waiting.site, waiting.status, waiting.presence) == (HELPER, "working", "away")
    stage.enter(HELPER)
    assert [site.site for site in watched.progress(driver.run).sites] == list(NAMES)


def test_a_run_by_quorum_hears_that_its_helper_is_lost_and_back(stage: Stage) -> None:
    stage.enter(*NAMES, HELPER)
    driver = begin(stage, helped_job(absent="quorum", quorum=0.9))
    stage.wait(31.0, *NAMES)
    assert stage.lost(driver) == (HELPER,)
    stage.house.attendances.touch(HELPER, stage.now)
    stage.house.runs.back(HELPER)
    assert stage.lost(driver) == ()


def test_a_helper_that_never_joined_is_refused_by_name(stage: Stage) -> None:
    job = make_job(federation=THREE, privacy={**WITH_HELPER, "helper": "notery"})
    with pytest.raises(UnknownNameError, match="notery"):
        stage.home.start(job, stage.bundle)


def test_a_site_that_is_named_cannot_help(stage: Stage) -> None:
    with pytest.raises(SpecError, match="is one of the run's sites"):
        stage.home.start(helped_job(sites=[*NAMES, HELPER]), stage.bundle)
