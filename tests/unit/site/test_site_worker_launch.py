"""A launched process leaves nothing behind that holds its pipes, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process

import psutil
import pytest

from archipel.site.worker.launch import launch
from unit.site.site_fakes import PATIENCE_SECONDS

IDLE = "import time; time.sleep(10_000)"
DEAF_CHILD = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {IDLE!r}])
print(child.pid, flush=True)
"""
CHILD_OF_ANOTHER_GROUP = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], start_new_session=True)
print(child.pid, flush=True)
"""


async def _begun(program: str) -> tuple[Process, psutil.Process]:
    """Start a program that prints the pid of its child."""
    process = await launch(sys.executable, "-c", program, environment=os.environ)
    assert process.stdout is not None
    return process, psutil.Process(int(await process.stdout.readline()))


@pytest.mark.parametrize("program", [DEAF_CHILD, CHILD_OF_ANOTHER_GROUP])
@pytest.mark.parametrize("is_killed", [True, False])
async def test_what_a_process_leaves_behind_ends_with_it_and_with_its_pipes(program: str, *, is_killed: bool) -> None:
    process, child = await _begun(program + IDLE if is_killed else program)
    assert process.stdout is not None
    if is_killed:
        os.kill(process.pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await process.stdout.read() == b""
        assert await process.wait() == (-signal.SIGKILL if is_killed else 0)
    await asyncio.to_thread(child.wait, PATIENCE_SECONDS)


async def test_what_it_has_said_is_heard_also_when_it_has_ended() -> None:
    process = await launch(sys.executable, "-c", "print('x' * 100_000)", environment=os.environ)
    assert process.stdout is not None
    assert len(await process.stdout.read()) == 100_001
    assert await process.wait() == 0
