"""Entries of a job (`file.py:function`) run in a process of their own: preparing data, the pooled reference.

    figures = begin(fleet, "reference", Order(entry="reference.py:reference", job=job, …), log).result()

The process is `python -m archipel.cli.entries`: it reads its order from stdin, imports the file with the job's folder
first on the path, calls the function with the job and the paths, and writes the result as JSON. So user code never
runs in the process of the command, Ctrl-C ends it at once, and what it prints goes to a log. One that an earlier
command left behind (it was killed) is ended before the next begins, so that two never write to one place.
"""

from __future__ import annotations

import contextlib
import math
import sys
import traceback
from pathlib import Path
from typing import Any

import msgspec
import psutil

from archipel.cli import processes
from archipel.cli.interrupts import check
from archipel.spec import ArchipelError, JobSpec, TaskError, Value, decode, encode
from archipel.spec.wire import Failure
from archipel.tasks.guard import user_code
from archipel.tasks.load import load_object

_TICK_SECONDS = 0.2


class Order(Value, frozen=True, kw_only=True):
    """What the process is to do."""

    folder: str
    """The job's folder."""
    entry: str
    """Such as "prepare.py:prepare"."""
    job: JobSpec | None = None
    """The first argument, presets laid over; None: the function is not given the job."""
    paths: tuple[str | None, ...] = ()
    """The other arguments."""
    result: str
    """File the answer is written to."""


class Answer(Value, frozen=True, kw_only=True):
    """What came of it."""

    value: Any = None
    failure: Failure | None = None


class Entry:
    """An entry at work."""

    def __init__(self, process: psutil.Process, order: Order, log: Path) -> None:
        self._process = process
        self._order = order
        self._log = log

    @property
    def running(self) -> bool:
        """Is it still at work?"""
        return processes.is_alive(self._process)

    def result(self) -> Any:
        """Wait for it and return what the function returned.

        Raises:
            ArchipelError: what the function raised on purpose.
            TaskError: it raised something else, or its process died.
        """
        try:
            self._await_end()
        except KeyboardInterrupt:
            self._process.kill()
            raise
        path = Path(self._order.result)
        if not path.is_file():
            raise TaskError(f"{self._order.entry} ended without an answer", hint=f"its output is in {self._log}")
        answer = decode(path.read_bytes(), Answer)
        path.unlink()
        if answer.failure is not None:
            raise answer.failure.as_error()
        return answer.value

    def _await_end(self) -> None:
        while self.running:
            check()
            with contextlib.suppress(psutil.TimeoutExpired):
                self._process.wait(_TICK_SECONDS)


def begin(fleet: Path, role: str, order: Order, log: Path, *, niceness: int = 0) -> Entry:
    """Start an entry in a process of its own, as `role` of the fleet."""
    processes.stop(fleet, [role])
    Path(order.result).unlink(missing_ok=True)
    words = ["-m", "archipel.cli.entries"]
    process = processes.start(fleet, role, words, log, stdin=encode(order).decode())
    if niceness:
        process.nice(niceness)
    return Entry(process, order, log)


def perform(order: Order) -> Answer:
    """Do what the order says, here."""
    arguments: list[Any] = [] if order.job is None else [order.job]
    arguments += [None if path is None else Path(path) for path in order.paths]
    folder = Path(order.folder)
    file, _, name = order.entry.partition(":")
    sys.path.insert(0, str(folder))  # for imports inside the function; those at the top of the file are load's
    try:
        function = load_object(folder, file, name)
        with user_code(f"{name}()", folder.resolve()):
            value = function(*arguments)
        return Answer(value=msgspec.to_builtins(_finite(value), str_keys=True))
    except ArchipelError as error:
        traceback.print_exception(error)
        return Answer(failure=Failure(error=type(error).__name__, message=error.message, hint=error.hint))
    except TypeError as error:
        message = f"{order.entry} returned what JSON cannot hold: {error}"
        return Answer(failure=Failure(error="TaskError", message=message, hint="return plain numbers, texts and dicts"))


def _finite(value: Any) -> Any:
    """Return `value` with NaN and infinities as None: JSON has none."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _serve() -> None:
    order = decode(sys.stdin.buffer.read(), Order)
    answer = encode(perform(order))
    target = Path(order.result)
    partial = target.with_suffix(".partial")
    partial.write_bytes(answer)
    partial.replace(target)


if __name__ == "__main__":
    _serve()
