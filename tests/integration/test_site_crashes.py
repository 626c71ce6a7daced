"""Kill a real agent, or its worker, at every named point of the site's code: the run ends with the same updates.

The names are read from the source, so a new failpoint is tested from the day it is written. A run is killed at several
of them, one after another; points that follow each other in the code are in different runs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import archipel
from unit.site.site_fakes import AgentProcess, FakeControl, make_job, put_bundle, write_birds
from unit.site.site_runs import Run, outcome

SOURCE = Path(archipel.__file__).parent
NAMES = sorted(
    {
        name
        for folder in (SOURCE / "site", SOURCE / "data")
        for path in folder.rglob("*.py")
        for name in re.findall(r'failpoint\("([^"]+)"\)', path.read_text())
    }
)
JOINING = {name for name in NAMES if name.startswith("site.join.")}
"""Passed by `archipel join`, not by the agent: test_site_join.py kills there."""
SECURE = [name for name in NAMES if name.startswith(("site.leg.", "site.session."))]
"""Passed under secure aggregation only: test_secagg_kills.py kills there."""
RUNNING = [name for name in NAMES if name not in JOINING and name not in SECURE]

RUNS = 4


def agent_deaths(failpoints: Sequence[str]) -> int:
    """Points the worker process passes kill it alone; the agent starts another."""
    return sum(not name.startswith("site.worker.") for name in failpoints)


async def run_with(folder: Path, failpoints: Sequence[str]) -> tuple[dict[str, Any], int, list[str]]:
    """Do a run with an agent that is started again when it dies; return its outcome, how often it died, and where."""
    data = write_birds(folder / "data")
    environment = {"ARCHIPEL_FAILPOINT": f"{','.join(failpoints)}@{folder / 'died'}"} if failpoints else {}
    deaths, expected = 0, agent_deaths(failpoints)
    async with FakeControl(folder / "control") as control:
        bundle = put_bundle(control.spool, folder / "job")
        place = control.enrol(folder / "site", {"birds": data})
        job = make_job(federation={"algorithm": "scaffold", "rounds": 2})
        agent = AgentProcess(place.path, **environment)

        async def keep_alive() -> None:
            nonlocal deaths
            while True:
                await agent.start()
                assert agent.process is not None
                if await agent.process.wait() != -9:
                    return
                deaths += 1

        living = asyncio.create_task(keep_alive())
        run = Run(control, job, bundle)
        done = await run.all_stages()
        serve = run.serve()
        control.always = [serve]
        control.say(serve)
        await control.until(
            lambda: (
                len(died(folder)) == len(failpoints)
                and deaths >= expected
                and bool(control.beats and control.beats[-1].serving)
            )
        )
        await agent.end()
        await living
        assert len(control.answers) == len(done)
    return outcome(done), deaths, died(folder)


def died(folder: Path) -> list[str]:
    """Return the points at which a process has died."""
    marker = folder / "died"
    return marker.read_text().split() if marker.exists() else []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done, deaths, _ = asyncio.run(run_with(tmp_path_factory.mktemp("undisturbed"), ()))
    assert deaths == 0
    return done


@pytest.mark.parametrize("names", [RUNNING[first::RUNS] for first in range(RUNS)], ids=", ".join)
async def test_killed_there_the_run_ends_with_the_same_updates(
    names: list[str], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    done, deaths, at = await run_with(tmp_path, names)
    assert sorted(at) == names, "a process never passed a failpoint"
    assert deaths == agent_deaths(names)
    assert done == undisturbed, f"after it died at {', '.join(at)}"
