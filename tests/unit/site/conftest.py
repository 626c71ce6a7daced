"""A small control plane, a site that joined it, and a run, for tests of the agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from archipel.site.agent import SiteFolder
from unit.site.site_fakes import FakeControl, make_job, put_bundle, write_birds
from unit.site.site_runs import Run


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[FakeControl]:
    async with FakeControl(tmp_path / "control") as running:
        yield running


@pytest.fixture
def place(control: FakeControl, tmp_path: Path) -> SiteFolder:
    return control.enrol(tmp_path / "site", {"birds": write_birds(tmp_path / "data")})


@pytest.fixture
def run(control: FakeControl, tmp_path: Path) -> Run:
    return Run(control, make_job(), put_bundle(control.spool, tmp_path / "job"))
