"""A Ctrl-C is never lost: where Python drops the exception, the next check raises it."""

from __future__ import annotations

import os
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from archipel.cli import entries, failure, processes
from archipel.cli.interrupts import SIGNALS, Interrupts, check, held
from archipel.cli.main import main


class Dropper:
    """Stands for whatever of a library is being finalised while the signal comes."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self._number)
        for _ in range(100):
            pass  # the handler runs between two bytecodes


def lose_in_a_finaliser(number: int = signal.SIGINT) -> None:
    Dropper(number)


def lose_in_a_weakref_callback() -> None:
    thing = type("Thing", (), {})()
    watching = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del thing
    assert watching() is None


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException] | None]:
    """Exceptions that Python ignored."""
    found: list[type[BaseException] | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: found.append(args.exc_type))
    return found


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    with Interrupts() as installed:
        yield installed


@pytest.mark.parametrize("lose", [lose_in_a_finaliser, lose_in_a_weakref_callback])
def test_a_ctrl_c_that_python_dropped_is_raised_at_the_next_check(
    dropped: list[object], interrupts: Interrupts, lose: Callable[[], None]
) -> None:
    check()
    lose()
    assert dropped == [KeyboardInterrupt], "the exception was not lost: the test shows nothing"
    with pytest.raises(KeyboardInterrupt):
        check()
    assert interrupts.exit_code == 130


def test_a_signal_raises_where_it_comes() -> None:
    with Interrupts() as installed, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert installed.exit_code == 143


def test_no_signal_breaks_into_a_held_block_but_it_is_told_of(interrupts: Interrupts) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with held() as is_urgent:
        assert not is_urgent(), "the first signal is why the block was entered"
        check()
        signal.raise_signal(signal.SIGINT)
        assert is_urgent()
        check()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert interrupts.exit_code == 130


def test_the_handlers_from_before_come_back_and_an_ignored_signal_stays_ignored() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    kept = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interrupts() as installed:
            assert signal.getsignal(signal.SIGINT) is installed
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, kept)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_without_a_handler_there_is_nothing_to_check() -> None:
    check()
    with held() as is_urgent:
        assert not is_urgent()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_interrupted_says_the_way_on_and_exits_as_shells_expect(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("archipel.spec.schema.job_schema", lambda: signal.raise_signal(number))
    with pytest.raises(SystemExit) as ended:
        main(["schema"])
    assert ended.value.code == code
    assert "interrupted: nothing was lost; `archipel resume` goes on" in capsys.readouterr().err


def test_a_second_signal_while_the_way_on_is_said_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("archipel.spec.schema.job_schema", lambda: signal.raise_signal(signal.SIGTERM))
    say = failure.say_interrupted

    def interrupted_again(error: KeyboardInterrupt) -> None:
        signal.raise_signal(signal.SIGTERM)
        say(error)

    monkeypatch.setattr(failure, "say_interrupted", interrupted_again)
    with pytest.raises(SystemExit) as ended:
        main(["schema"])
    assert ended.value.code == 143
    assert "nothing was lost" in capsys.readouterr().err


def waiting(folder: Path) -> entries.Order:
    (folder / "wait.py").write_text("import signal\ndef wait():\n    signal.pause()\n")
    return entries.Order(folder=str(folder), entry="wait.py:wait", result=str(folder / "answer"))


def test_waiting_for_a_jobs_own_function_sees_a_lost_ctrl_c_and_ends_the_function(
    tmp_path: Path, dropped: list[object], interrupts: Interrupts
) -> None:
    entry = entries.begin(tmp_path, "reference", waiting(tmp_path), tmp_path / "log")
    lose_in_a_finaliser(signal.SIGTERM)
    assert dropped == [KeyboardInterrupt]
    with pytest.raises(KeyboardInterrupt):
        entry.result()
    assert interrupts.exit_code == 143
    psutil.wait_procs([process for _, process in processes.members(tmp_path)])
    assert not entry.running


def test_a_function_that_a_killed_command_left_behind_is_ended_before_it_begins_again(tmp_path: Path) -> None:
    order = waiting(tmp_path)
    left = entries.begin(tmp_path, "prepare", order, tmp_path / "log")
    again = entries.begin(tmp_path, "prepare", order, tmp_path / "log")
    try:
        assert not left.running
        assert again.running
    finally:
        processes.stop(tmp_path)
