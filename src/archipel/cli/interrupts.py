"""Ctrl-C that is never lost: the process's handler of SIGINT and SIGTERM, and the question of those who wait.

    with Interrupts() as interrupts:     # main, for as long as a command takes
        while not ready():
            check()                      # raises KeyboardInterrupt if one was noted, at the next tick at the latest
            sleep(tick)

    with held() as is_urgent:            # ending processes: no signal breaks in, a further one only hurries
        stop(is_urgent)

Python drops an exception that is raised inside a finaliser, a weakref callback or the import system's callbacks
("Exception ignored in …"): a Ctrl-C that falls into one is printed and forgotten. So the handler notes the signal as
well as raising KeyboardInterrupt, and every loop that waits, and every step that begins, checks the note.

SIGTERM (`docker stop`, systemd, `kill`) is the same wish said by a machine: it takes the same way, and exits with
143 where Ctrl-C exits with 130. A signal that was ignored when the process began (`nohup`, `&` in a script) stays so.
The handler in the process's signal table is the one state, so whoever waits needs no reference to it.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FATAL_BASE = 128
"""A shell's exit code of a process that a signal ended, less the signal's number."""


class Interrupts:
    """The handler of both signals, while the block lasts; main thread only."""

    def __init__(self) -> None:
        self._number = int(signal.SIGINT)
        self._count = 0
        self._is_held = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal in."""
        self._number = number
        self._count += 1
        if not self._is_held:
            raise KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        """What the process exits with after the last signal (Ctrl-C, if none was seen here)."""
        return _FATAL_BASE + self._number

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came, whatever became of the exception raised then."""
        if self._count and not self._is_held:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[Callable[[], bool]]:
        """Note signals without raising; yields a question: has one come since?"""
        before = self._count
        self._is_held = True
        try:
            yield lambda: self._count > before
        finally:
            self._is_held = False


def check() -> None:
    """Raise KeyboardInterrupt if a signal came to this command, even where its exception was lost."""
    handler = _installed()
    if handler is not None:
        handler.check()


@contextlib.contextmanager
def held() -> Iterator[Callable[[], bool]]:
    """Let no signal break into the block; yields a question: has one come since it began?"""
    handler = _installed()
    with contextlib.nullcontext(lambda: False) if handler is None else handler.held() as is_urgent:
        yield is_urgent


def _installed() -> Interrupts | None:
    return next((found for number in SIGNALS if isinstance(found := signal.getsignal(number), Interrupts)), None)
