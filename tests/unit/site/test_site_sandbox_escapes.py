"""Fifteen escapes, tried by a task in a real worker: with every wall, with those that need no bubblewrap, with none.

The last shows that each attempt gets through where nothing stops it, so that a 0 of the first two is the sandbox's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archipel.data.stores.spool import Spool
from archipel.site.sandbox import Limits, Sandbox, Walls, survey
from archipel.site.worker.process import WorkerProcess
from archipel.spec import RoundTask, TaskError, unpack
from archipel.spec.job import JobSpec
from unit.site.site_escapes import ESCAPES, TASK
from unit.site.site_fakes import SITE, make_job, post_of, put_bundle, write_birds

HERE = survey()
WITHOUT = Walls(no_bubblewrap="not asked for by this test", landlock=HERE.landlock, seccomp=HERE.seccomp)
LIMITS = Limits(memory_mb=8000, processes=200, tmp_mb=64, file_mb=64)
Recorder = Callable[[str, object], None]
MARKER = "a-secret-of-the-agents-environment"

OPEN_WITHOUT_NAMESPACES = {"fill_the_disk"}
"""/tmp is on the disk there, and the number of files has no limit."""
NEEDS_LANDLOCK = {"read_shadow", "read_another_data_set", "read_the_agents_key", "read_environments", "write_outside"}
NEEDS_LANDLOCK |= {"signal_the_agent", "open_a_raw_device"}
NEEDS_ROOT = {"read_shadow", "open_a_raw_device"}
"""Refused to anyone but root, with or without a sandbox."""


@contextlib.contextmanager
def temptations(folder: Path) -> Iterator[dict[str, Any]]:
    """What there is to be reached outside: another data set, a key, a process, sockets, devices."""
    (folder / "key.pem").write_text("the key")
    other, outside = folder.parent / "other.csv", folder.parent / "outside"
    other.write_text("x,y,kind\n1,2,a\n")
    outside.mkdir()
    abstract = f"archipel-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        tcp, udp = (stack.enter_context(socket.socket(type=kind)) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        for item, place in ((tcp, ("127.0.0.1", 0)), (udp, ("127.0.0.1", 0)), (unix, f"\0{abstract}")):
            item.bind(place)
        tcp.listen()
        unix.listen()
        threading.Thread(target=_echo, args=(udp,), daemon=True).start()
        stack.callback(_wake, udp.getsockname())
        words = [sys.executable, "-S", "-c", "import signal; print(flush=True); signal.pause()"]
        victim = stack.enter_context(
            subprocess.Popen(words, env={**os.environ, "SECRET": MARKER}, stdout=subprocess.PIPE)
        )
        assert victim.stdout is not None
        victim.stdout.readline()
        stack.callback(victim.kill)
        yield {
            "shadow": "/etc/shadow",
            "other": str(other),
            "site": str(folder),
            "outside": str(outside),
            "data": str(folder.parent / "data" / "birds.csv"),
            "marker": MARKER,
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "abstract": abstract,
            "victim": victim.pid,
            "devices": [str(path) for path in _devices()],
            "numbers": [path.stat().st_rdev for path in _devices()],
        }


def _devices() -> list[Path]:
    return [path for path in sorted(Path("/dev").iterdir()) if path.is_block_device()]


def _echo(udp: socket.socket) -> None:
    heard, sender = udp.recvfrom(10)
    if heard == b"leak":
        udp.sendto(b"heard", sender)


def _wake(address: tuple[str, int]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as last:
        last.sendto(b"over", address)


def task_of(spool: Spool, folder: Path, job: JobSpec, kind: str = "statistics") -> RoundTask:
    return RoundTask(run="run-1", round=0, site=SITE, kind=kind, job=job, bundle=put_bundle(spool, folder, TASK))


async def attempt(folder: Path, sandbox: Sandbox, walls: Walls, attempts: tuple[str, ...] = ESCAPES) -> set[str]:
    """Let a task try; return the ways that were open."""
    site = folder / "site"
    site.mkdir()
    post = post_of(site, {"birds": write_birds(folder / "data")}, sandbox, walls)
    with temptations(site) as options:
        options |= {"attempts": list(attempts), "confined": sandbox.require != "none"}
        worker = WorkerProcess(post)
        job = make_job(task={"code": "task.py:Birds", "options": options})
        try:
            update, _ = await worker.execute(task_of(post.spool, folder / "job", job), {}, lambda _: None)
        finally:
            await worker.close()
    sums = unpack(post.spool.require(update.parts["sums"].blob.digest).read_bytes())
    assert set(sums) == set(attempts)
    return {name for name, value in sums.items() if float(value) != 0}


@pytest.mark.attack(
    "task code",
    "escape from the sandbox this machine has",
    open="A task that is written to leak can write rows into the update, into sums",
)
async def test_every_escape_is_blocked_by_what_this_machine_has(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], record_property: Recorder
) -> None:
    through = await attempt(tmp_path, Sandbox(limits=LIMITS), HERE)
    record_property("tries", len(ESCAPES))
    record_property("open", len(through))
    with capfd.disabled():
        sys.stdout.write(f"\nsandbox: {HERE.line()}\n")
    assert through == promised(HERE)
    assert capfd.readouterr().err.count("ESCAPE ") == len(ESCAPES), "an attempt was not made"


@pytest.mark.attack(
    "task code",
    "escape where there is no bubblewrap",
    open="Without bubblewrap /tmp is a folder on the disk, and the number of files in it has no limit.",
)
async def test_without_bubblewrap_all_is_blocked_but_what_is_said_to_be_open(
    tmp_path: Path, record_property: Recorder
) -> None:
    through = await attempt(tmp_path, Sandbox(limits=LIMITS), WITHOUT)
    record_property("tries", len(ESCAPES))
    record_property("open", len(through))
    assert through == promised(WITHOUT)


@pytest.mark.attack(
    "task code",
    "escape where a policy says require = none",
    result="open",
    open="Confine nothing: code runs with the agent's rights.",
)
async def test_without_a_sandbox_every_way_is_open(tmp_path: Path, record_property: Recorder) -> None:
    expected = set(ESCAPES)
    if os.geteuid() != 0:
        expected -= NEEDS_ROOT
    expected -= set() if _devices() else {"open_a_raw_device"}
    expected -= set() if _may_have_users() else {"mount_or_make_a_namespace"}
    record_property("tries", len(expected))
    assert await attempt(tmp_path, Sandbox(require="none"), HERE) == expected


def promised(walls: Walls) -> set[str]:
    """Return the ways that docs/concepts/sandbox.md says are open with these walls."""
    if walls.bubblewrap:
        return set()
    open_ = set(OPEN_WITHOUT_NAMESPACES)
    open_ |= set() if walls.landlock else NEEDS_LANDLOCK - (set() if os.geteuid() == 0 else NEEDS_ROOT)
    open_ |= {"signal_the_agent"} if walls.landlock < 6 else set()
    return open_ if _devices() else open_ - {"open_a_raw_device"}


def _may_have_users() -> bool:
    words = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10020000) != 0)"
    return subprocess.run([sys.executable, "-S", "-c", words], check=False).returncode == 0


@pytest.mark.parametrize("walls", [HERE, WITHOUT], ids=["all walls", "without bubblewrap"])
@pytest.mark.parametrize(
    ("name", "said"), [("Dialler", "the site's sandbox gives tasks no network"), ("Scribbler", "in a sandbox")]
)
async def test_a_task_that_runs_into_a_wall_is_told_so(tmp_path: Path, walls: Walls, name: str, said: str) -> None:
    data = write_birds(tmp_path / "data")
    post = post_of(tmp_path / "site", {"birds": data}, Sandbox(), walls)
    job = make_job(task={"code": f"task.py:{name}", "options": {"data": str(data), "attempts": []}})
    worker = WorkerProcess(post)
    with pytest.raises(TaskError, match=r"task\.py:\d+, in read: ") as caught:
        await worker.execute(task_of(post.spool, tmp_path / "job", job, "alone"), {}, lambda _: None)
    await worker.close()
    assert said in caught.value.hint
