"""Kill a real agent, or its worker, at every named point of the site's code: the run ends with the same updates.

The names are read from the source, so a new failpoint is tested from the day it is written.
"""

from __future__ import annotations

import asyncio
import re
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
RUNNING = [name for name in NAMES if name not in JOINING]


def agent_deaths(failpoint: str | None) -> int:
    """Points the worker process passes kill it alone; the agent starts another."""
    return 0 if failpoint is None or failpoint.startswith("site.worker.") else 1


async def run_with(folder: Path, failpoint: str | None) -> tuple[dict[str, Any], int, bool]:
    """Do a run with an agent that is started again when it dies; return its outcome, the deaths, and if one served."""
    data = write_birds(folder / "data")
    environment = {} if failpoint is None else {"ARCHIPEL_FAILPOINT": f"{failpoint}@{folder / 'died'}"}
    deaths, expected = 0, agent_deaths(failpoint)
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
                (failpoint is None or (folder / "died").exists())
                and deaths >= expected
                and bool(control.beats and control.beats[-1].serving)
            )
        )
        await agent.end()
        await living
        assert len(control.answers) == len(done)
    return outcome(done), deaths, (folder / "died").exists()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done, deaths, _ = asyncio.run(run_with(tmp_path_factory.mktemp("undisturbed"), None))
    assert deaths == 0
    return done


@pytest.mark.parametrize("name", RUNNING)
async def test_killed_there_the_run_ends_with_the_same_updates(
    name: str, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    done, deaths, died = await run_with(tmp_path, name)
    assert died, "the process never passed this failpoint"
    assert deaths == agent_deaths(name)
    assert done == undisturbed
