"""Control groups: where they may be made, what they say, and, where the kernel lets us, that they hold a whole tree."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from archipel.site.sandbox import Bounds, Group, Guard, Limits, Sandbox, Walls, survey
from archipel.site.sandbox.groups import delegation
from archipel.site.worker.launch import launch
from archipel.site.worker.process import WorkerProcess
from archipel.spec import RoundTask, StateError, TaskError
from archipel.spec.quantities import Size
from unit.site.site_fakes import PATIENCE_SECONDS, SITE, TASK, make_job, post_of, put_bundle, write_birds
from unit.site.test_site_sandbox import view_of

HERE = survey()
needs_groups = pytest.mark.skipif(HERE.groups is None, reason=f"no control groups here: {HERE.no_groups}")
A_PARENTS_PID = "1"


def tree(folder: Path, group: str, *, controllers: str = "cpu io memory pids", divided: str = "") -> Path:
    """Lay out what /proc says of a process in `group`, and the files of that group; return the folder of /proc."""
    process, place = folder / "proc", folder / "groups" / group.strip("/")
    process.mkdir()
    place.mkdir(parents=True)
    (process / "cgroup").write_text(f"4:memory:/elsewhere\n0::{group}\n")
    (process / "mountinfo").write_text(
        f"25 1 0:5 / /proc rw - proc proc rw\n26 1 0:6 / {folder / 'groups'} rw shared:9 - cgroup2 cgroup2 rw\n"
    )
    for at in (place, place.parent):
        (at / "cgroup.controllers").write_text(controllers)
        (at / "cgroup.subtree_control").write_text(divided)
        (at / "cgroup.procs").write_text(f"{A_PARENTS_PID}\n")
        (at / "cgroup.type").write_text("domain\n")
    return process


def mark(monkeypatch: pytest.MonkeyPatch, value: bytes) -> None:
    monkeypatch.setattr(os, "getxattr", lambda _, name: value if name == "user.delegate" else b"")


def test_a_delegated_group_is_divided_and_who_lives_in_it_moves_into_a_leaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark(monkeypatch, b"1")
    process = tree(tmp_path, "/user.slice/site.service")
    place = tmp_path / "groups" / "user.slice" / "site.service"
    assert delegation(process) == (place, "")
    assert (place / "archipel-agents" / "cgroup.procs").read_text() == A_PARENTS_PID
    assert (place / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_the_root_of_what_a_container_sees_is_its_own(tmp_path: Path) -> None:
    assert delegation(tree(tmp_path, "/", controllers="memory pids")) == (tmp_path / "groups", "")
    assert (tmp_path / "groups" / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_a_second_agent_finds_the_group_that_the_first_has_divided(tmp_path: Path) -> None:
    process = tree(tmp_path, "/site.service/archipel-agents", divided="memory pids cpu")
    assert delegation(process) == (tmp_path / "groups" / "site.service", "")
    assert not (tmp_path / "groups" / "site.service" / "archipel-agents" / "archipel-agents").exists()


def test_the_groups_of_agents_that_are_gone_are_ended_and_of_no_other(tmp_path: Path) -> None:
    process, place = tree(tmp_path, "/"), tmp_path / "groups"
    gone, living, foreign = (
        place / name for name in ("archipel-worker-99999999-a", f"archipel-worker-{os.getpid()}-b", "worker-99999999-c")
    )
    for folder in (gone, living, foreign):
        folder.mkdir()
    delegation(process)
    assert [(folder / "cgroup.kill").exists() for folder in (gone, living, foreign)] == [True, False, False]


def test_a_group_is_left_alone_that_nobody_has_delegated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark(monkeypatch, b"0")
    process = tree(tmp_path, "/user.slice/session-1.scope")
    assert delegation(process) == (None, "the agent's control group is not delegated to it")
    assert not list(tmp_path.rglob("archipel-agents"))


@pytest.mark.parametrize(
    ("controllers", "why"),
    [
        ("hugetlb", "cgroup v2 has no controller for memory and pids"),
        ("cpu pids", "cgroup v2 has no controller for memory"),
    ],
)
def test_controllers_that_are_not_there_are_named(tmp_path: Path, controllers: str, why: str) -> None:
    assert delegation(tree(tmp_path, "/", controllers=controllers)) == (None, why)


def test_a_machine_without_cgroup_v2_has_none(tmp_path: Path) -> None:
    process = tree(tmp_path, "/")
    (process / "cgroup").write_text("4:memory:/\n")
    assert delegation(process) == (None, "no cgroup v2")
    assert delegation(tmp_path / "nowhere") == (None, "no cgroup v2")


def test_a_group_that_may_not_be_written_is_no_fault_of_the_sites(tmp_path: Path) -> None:
    process = tree(tmp_path, "/")
    (tmp_path / "groups" / "cgroup.subtree_control").unlink()
    (tmp_path / "groups" / "cgroup.subtree_control").mkdir()
    place, why = delegation(process)
    assert place is None
    assert why.startswith("the agent may not divide its control group: ")


def test_what_a_policy_allows_is_what_the_group_says(tmp_path: Path) -> None:
    limits = Limits(cores=2, memory_mb=300, processes=9)
    walls = Walls(bubblewrap="/usr/bin/bwrap", landlock=7, seccomp=True, groups=tmp_path)
    bounds = Guard(Sandbox(limits=limits), walls, {}).enclose(view_of(tmp_path)).bounds
    assert bounds == Bounds(place=tmp_path, memory_bytes=300_000_000, processes=9 + 2, cores=2)
    assert bounds.files() == {
        "memory.max": "300000000",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "11",
        "cpu.max": "200000 100000",
    }
    assert Guard(Sandbox(require="none"), walls, {}).enclose(view_of(tmp_path / "none")).bounds is None


def test_the_line_says_what_limits_hold() -> None:
    walls = Walls(bubblewrap="/usr/bin/bwrap", landlock=7, seccomp=True, groups=Path("/groups"))
    assert walls.line() == "full (namespaces, Landlock 7, seccomp, limits on all processes together)"


def test_a_group_that_can_no_longer_be_made_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="a worker's control group cannot be made") as caught:
        Group(Bounds(place=tmp_path / "gone", memory_bytes=1, processes=1, cores=None))
    assert "start the agent again" in caught.value.hint


@pytest.mark.parametrize(
    ("events", "outgrown"),
    [
        ("low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 1\n", Size(5e6)),
        ("max 0\noom 0\noom_kill 1\n", None),  # the machine was out of memory, not the group
        ("max 12\noom 0\noom_kill 0\n", None),
        ("", None),
    ],
)
def test_a_limit_that_has_killed_is_told_from_a_machine_without_memory(
    tmp_path: Path, events: str, outgrown: Size | None
) -> None:
    group = Group(Bounds(place=tmp_path, memory_bytes=5_000_000, processes=1, cores=None))
    (group.folder / "memory.events").write_text(events)
    assert group.remove() == outgrown


# ---- with a kernel that has them -----------------------------------------------------------------------------------

GREEDY = '''

class Greedy(Birds):
    """Takes memory in children, each of which stays below the limit."""

    def read(self, site, statistics):
        (told, tell), (over, until) = os.pipe(), os.pipe()
        for _ in range(4):
            if os.fork() == 0:
                os.close(until)
                try:
                    held = np.ones(100_000_000, dtype=np.uint8)
                    os.write(tell, b"1")
                except MemoryError:
                    os.write(tell, b"0")
                os.read(over, 1)
                os._exit(0)
        had = b"".join(os.read(told, 1) for _ in range(4))
        assert had == b"1111"
        os.close(until)
        return super().read(site, statistics)
'''
ESCAPED = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10_000)"], start_new_session=True)
print(child.pid, flush=True)
"""


@pytest.mark.attack(
    "task code",
    "use more memory than the site allows, in children",
    open="where there are no control groups use its memory once for each of its processes",
)
async def test_children_together_may_not_use_more_memory_than_the_site_allows(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    post = post_of(tmp_path, {"birds": write_birds(tmp_path / "data")}, Sandbox(limits=Limits(memory_mb=300)))
    bundle = put_bundle(post.spool, tmp_path / "job", TASK + GREEDY)
    job = make_job(task={"code": "task.py:Greedy"})
    task = RoundTask(run="run-1", round=0, site=SITE, kind="check", job=job, bundle=bundle)
    worker = WorkerProcess(post)
    record_property("open", int(HERE.groups is None))
    if HERE.groups is None:
        await worker.execute(task, {}, lambda _: None)
    else:
        with pytest.raises(TaskError, match=r"^the task used more than 300 MB of memory, all its processes") as caught:
            await worker.execute(task, {}, lambda _: None)
        assert "[limits]" in caught.value.hint
        assert not _workers()
    await worker.close()


@needs_groups
async def test_a_process_that_leaves_session_and_group_ends_with_the_worker() -> None:
    assert HERE.groups is not None
    group = Group(Bounds(place=HERE.groups, memory_bytes=10**9, processes=9, cores=1))
    process = await launch(sys.executable, "-c", ESCAPED, environment=os.environ, group=group)
    assert process.stdout is not None
    child = psutil.Process(int(await process.stdout.readline()))
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await process.wait() == 0
    await asyncio.to_thread(child.wait, PATIENCE_SECONDS)
    assert group.remove() is None
    assert not _workers()


def _workers() -> list[Path]:
    assert HERE.groups is not None
    return list(HERE.groups.glob(f"archipel-worker-{os.getpid()}-*"))
