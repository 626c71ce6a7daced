"""A site whose disk is full: it says so, loses nothing, and works again when there is room. A real, small disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from archipel.site.agent import read_status
from archipel.spec import Refusal, Update
from unit.site.site_fakes import TASK, AgentProcess, FakeControl, make_job, put_bundle, write_birds
from unit.site.site_runs import Run

WIDE = TASK.replace(
    'label = "kind"\n',
    'label = "kind"\n\n    def model(self, statistics):\n'
    "        from archipel.tasks.numpy.network import Network\n"
    "        return Network(inputs=2, hidden=(60000,), outputs=2)\n",
    1,
)
"""A model of 1.2 MB."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"), (disk / "rubbish").open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 100_000)
            file.flush()


def widen(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)


async def test_a_full_disk_is_refused_by_name_and_work_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    async with FakeControl(tmp_path / "control") as control:
        place = control.enrol(small_disk / "site", {"birds": write_birds(tmp_path / "data")})
        run = Run(control, make_job(), put_bundle(control.spool, tmp_path / "job", WIDE))
        agent = AgentProcess(place.path)
        agent.log = tmp_path / "agent.log"
        async with agent:
            task = run.task("initialise")
            control.assign(task)
            too_large = await control.answered(task)
            fill(small_disk)
            task = msgspec.structs.replace(task, round=1)
            control.assign(task)
            not_even_the_journal = await control.answered(task)
            widen(small_disk)
            task = msgspec.structs.replace(task, round=2)
            control.assign(task)
            update = await control.answered(task)
            assert await agent.end() == 0
    for refusal in (too_large, not_even_the_journal):
        assert isinstance(refusal, Refusal)
        assert (refusal.error, str(small_disk) in refusal.message) == ("StorageFullError", True)
        assert "free" in refusal.hint
    assert isinstance(update, Update)
    status = read_status(place.path)
    assert status is not None
    assert status.state == "stopped"
