"""A fleet's processes are found by their mark and ended without a remainder, whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from archipel.cli import processes

WAITS = "import signal; signal.pause()"
STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
while True: signal.pause()
"""
PARENT = f"""
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {WAITS!r}])
print("child", child.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "fleet"
    folder.mkdir()
    yield folder
    processes.stop(folder)


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until, "did not come true in 20 s"
        time.sleep(0.01)


def test_a_started_process_is_found_by_role_and_ended(fleet: Path) -> None:
    process = processes.start(fleet, "control", ["-c", WAITS], fleet / "log")
    assert {role: found.pid for role, found in processes.leaders(fleet).items()} == {"control": process.pid}
    assert processes.stop(fleet) == ["control"]
    assert list(processes.members(fleet)) == []


def test_a_worker_whose_parent_was_killed_is_still_found_and_ended(fleet: Path) -> None:
    log = fleet / "log"
    parent = processes.start(fleet, "site/a", ["-c", PARENT], log)
    wait_until(lambda: log.read_text().startswith("child"))
    worker = int(log.read_text().split()[1])
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert [process.pid for _, process in processes.members(fleet)] == [worker]
    assert processes.stop(fleet) == ["site/a"]
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE


def test_a_process_that_ignores_the_request_is_killed(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 0.2)
    log = fleet / "log"
    processes.start(fleet, "site/a", ["-c", STUBBORN], log)
    wait_until(lambda: log.read_text() == "deaf\n")
    assert processes.stop(fleet) == ["site/a"]
    assert list(processes.members(fleet)) == []


def test_once_it_is_urgent_a_process_that_ignores_the_request_is_killed_without_more_waiting(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 200.0)
    log = fleet / "log"
    process = processes.start(fleet, "site/a", ["-c", STUBBORN], log)
    wait_until(lambda: log.read_text() == "deaf\n")
    looks: list[bool] = []

    def is_urgent() -> bool:
        looks.append(processes.is_alive(process))
        return len(looks) > 2

    assert processes.stop(fleet, None, is_urgent) == ["site/a"]
    assert looks == [True, True, True], "it did not wait for the request to be heard"
    assert not processes.is_alive(process)


def test_another_fleets_processes_are_left_alone(fleet: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    kept = processes.start(other, "control", ["-c", WAITS], other / "log")
    try:
        assert processes.stop(fleet) == []
        assert kept.is_running()
    finally:
        processes.stop(other)


def test_a_process_in_the_foreground_is_found_by_its_mark(fleet: Path) -> None:
    with subprocess.Popen([*processes.PYTHON, "-c", WAITS], env=processes.marked(fleet, "control")) as child:
        wait_until(lambda: "control" in processes.leaders(fleet))
        assert processes.leaders(fleet)["control"].pid == child.pid
        assert processes.stop(fleet) == ["control"]


def test_only_the_named_roles_are_ended(fleet: Path) -> None:
    processes.start(fleet, "control", ["-c", WAITS], fleet / "log")
    processes.start(fleet, "site/a", ["-c", WAITS], fleet / "log")
    assert processes.stop(fleet, ["site/a"]) == ["site/a"]
    assert set(processes.leaders(fleet)) == {"control"}


def test_a_secret_goes_in_by_stdin_and_not_on_the_command_line(fleet: Path) -> None:
    log = fleet / "log"
    code = "import sys; print('got', sys.stdin.readline()); sys.stdout.flush(); import signal; signal.pause()"
    process = processes.start(fleet, "site/a", ["-c", code], log, stdin="hush\n")
    wait_until(lambda: "got hush" in log.read_text())
    assert "hush" not in " ".join(process.cmdline())


def test_a_started_process_outlives_a_ctrl_c_at_its_starter(fleet: Path) -> None:
    process = processes.start(fleet, "site/a", ["-c", WAITS], fleet / "log")
    assert os.getsid(process.pid) != os.getsid(0), sys.platform


def test_a_process_whose_parent_has_not_looked_yet_has_ended(fleet: Path) -> None:
    process = processes.start(fleet, "control", ["-c", "pass"], fleet / "log")
    wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    assert not processes.is_alive(process)
    assert list(processes.members(fleet)) == []
    process.wait()
