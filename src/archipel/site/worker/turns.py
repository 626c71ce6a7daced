"""Turns: at most so many workers of one machine at work at once.

Sites that share a machine (a run with local sites) would otherwise all train at the same time, each with a model and
its gradients in memory, on cores that serve one of them at a time: ten taggers on two cores took twice the CPU time and
all memory. A turn is a lock on a file, so it ends with its holder, however that ends, and nothing is left to tidy up.

    ARCHIPEL_TURNS=/path/of/a/folder:2
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from archipel.spec import SpecError

TURNS = "ARCHIPEL_TURNS"
_FIRST_WAIT_SECONDS = 0.001
_LONGEST_WAIT_SECONDS = 0.05


class Turns:
    """Files of a folder, one a turn; without a folder everybody's turn is now."""

    def __init__(self, folder: Path | None = None, count: int = 0) -> None:
        self._files = [] if folder is None else [folder / f"turn-{number}" for number in range(count)]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Turns:
        """Read where turns are taken from `ARCHIPEL_TURNS`."""
        given = environment.get(TURNS)
        if given is None:
            return cls()
        folder, _, count = given.rpartition(":")
        if not folder or not count.isdecimal() or int(count) < 1:
            raise SpecError(f"{TURNS}={given!r} is not FOLDER:COUNT", hint="unset it: every site then works at once")
        return cls(Path(folder), int(count))

    def files(self) -> tuple[Path, ...]:
        """Return the files, made if they are not there: a confined worker can lock them and make none."""
        for path in self._files:
            _make(path)
        return tuple(self._files)

    @contextlib.contextmanager
    def take(self, unwanted: Callable[[], bool]) -> Iterator[bool]:
        """Wait for a turn and hold it; yields False, with no turn held, once the work is `unwanted`."""
        if not self._files:
            yield True
            return
        wait = _FIRST_WAIT_SECONDS
        while (held := self._free()) is None:
            if unwanted():
                yield False
                return
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        with held:
            yield True

    def _free(self) -> IO[str] | None:
        for path in self._files:
            if not path.exists():
                _make(path)
            file = path.open()
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                return file
        return None


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def turns_of_a_machine(folder: Path) -> str:
    """Return `ARCHIPEL_TURNS` for sites on this machine: a turn a core, but two at least, so that one may hang."""
    return f"{folder.resolve()}:{max(2, os.cpu_count() or 2)}"
