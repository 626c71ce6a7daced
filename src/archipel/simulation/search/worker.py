"""One worker of a search, seen from the search: started, told, heard, ended; see `spread.member` for its kind."""

from __future__ import annotations

import socket
import subprocess
import sys
from multiprocessing.connection import Connection

from archipel.simulation.search.messages import Ended, GoOn, Opened, Opening, Scored, Try
from archipel.simulation.search.study import Asked
from archipel.simulation.spread.messages import from_bytes, to_bytes


class Worker:
    """A process that makes one trial at a time."""

    def __init__(self, opening: Opening) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "archipel.simulation.search", str(theirs.fileno())]
            # What a task prints goes to the screen; its standard input ends when we do, and it with that.
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                command, pass_fds=[theirs.fileno()], stdin=subprocess.PIPE, stdout=2
            )
        self.connection = Connection(ours.detach())
        self.trial: Asked | None = None
        """What it works on."""
        self.is_ready = False
        """Was its opening answered?"""
        self.connection.send_bytes(to_bytes(opening))

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def opened(self) -> Opened:
        """Wait until it is ready.

        Raises:
            EOFError: it is gone.
            OSError: it is gone.
        """
        opened = from_bytes(self.connection.recv_bytes(), Opened)
        self.is_ready = True
        return opened

    def give(self, trial: Asked) -> None:
        """Let it make a trial.

        Raises:
            OSError: it is gone.
        """
        self.trial = trial
        self.connection.send_bytes(to_bytes(Try(job=trial.job)))

    def hear(self) -> Scored | Ended:
        """Wait for the next word of its trial; raises as `opened`."""
        return from_bytes(self.connection.recv_bytes(), Scored | Ended)  # type: ignore[arg-type]  # a union

    def reply(self, *, is_wanted: bool) -> None:
        """Say whether its trial goes on; raises as `give`."""
        self.connection.send_bytes(to_bytes(GoOn(is_wanted=is_wanted)))

    def end(self) -> None:
        """End it, at once: what it works on is made again by another."""
        self.connection.close()
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
