"""Entries of a job (`file.py:function`) run in a process of their own: preparing data, the pooled reference.

    finish(begin(folder, "prepare.py:prepare", [Target(...), None], log))

The process is `python -m archipel.cli.entries`: it reads its order from stdin, imports the file with the job's folder
first on the path, calls the function with the arguments, and writes the result as JSON. So user code never runs in
the process of the command, Ctrl-C ends it at once, and what it prints goes to a log.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import psutil

from archipel.cli import processes
from archipel.spec import ArchipelError, SpecError, TaskError, Value, decode, encode
from archipel.spec.wire import Failure

_MODULE = "archipel_job_entry"


class Order(Value, frozen=True, kw_only=True):
    """What the process is to do."""

    folder: str
    """The job's folder."""
    entry: str
    """Such as "prepare.py:prepare"."""
    arguments: tuple[str | int | None, ...]
    paths: tuple[int, ...] = ()
    """Positions of the arguments that are paths."""
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
        try:
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def result(self) -> Any:
        """Wait for it and return what the function returned.

        Raises:
            ArchipelError: what the function raised on purpose.
            TaskError: it raised something else, or its process died.
        """
        self._process.wait()
        path = Path(self._order.result)
        if not path.is_file():
            raise TaskError(f"{self._order.entry} ended without an answer", hint=f"its output is in {self._log}")
        answer = decode(path.read_bytes(), Answer)
        path.unlink()
        if answer.failure is not None:
            from archipel.cli.client import error_from

            raise error_from(answer.failure)
        return answer.value


def begin(fleet: Path, role: str, order: Order, log: Path, *, niceness: int = 0) -> Entry:
    """Start an entry in a process of its own, as `role` of the fleet."""
    Path(order.result).unlink(missing_ok=True)
    words = ["-m", "archipel.cli.entries"]
    process = processes.start(fleet, role, words, log, stdin=encode(order).decode())
    if niceness:
        process.nice(niceness)
    return Entry(process, order, log)


def perform(order: Order) -> Answer:
    """Do what the order says, here."""
    arguments = [
        Path(value) if index in order.paths and isinstance(value, str) else value
        for index, value in enumerate(order.arguments)
    ]
    try:
        function = _load(Path(order.folder), order.entry)
        value = function(*arguments)
        encode(value)
        return Answer(value=_finite(value))
    except ArchipelError as error:
        return Answer(failure=Failure(error=type(error).__name__, message=error.message, hint=error.hint))
    except Exception as error:  # noqa: BLE001 - user code: whatever it raises is its answer
        import traceback

        traceback.print_exc()
        place = _place(error)
        message = f"{order.entry} raised {type(error).__name__}: {error}{place}"
        return Answer(failure=Failure(error="TaskError", message=message, hint="mend it, then run the command again"))


def _load(folder: Path, entry: str) -> Any:
    file, _, name = entry.partition(":")
    path = folder / file
    if not path.is_file():
        raise SpecError(f"no file {file} beside the job file", hint=f"make {path}, or mend the entry {entry!r}")
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise SpecError(f"{path} cannot be imported", hint="it must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if function is None:
        raise SpecError(f"{file} has no function {name!r}", hint=f"mend the entry {entry!r} in the job file")
    return function


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"


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
