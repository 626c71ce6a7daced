"""One process of a simulation, seen from the simulation: started, told, heard, ended.

It is this very interpreter, started anew and not forked: a fork of a process that runs threads (BLAS, torch, XLA) may
hang. The two speak over a socket pair; whichever side goes away, the other sees the end of it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from multiprocessing.connection import Connection

from archipel.simulation.spread.messages import Answer, Opening, Piece, Vectors, from_bytes, to_bytes

GRACE_SECONDS = 5.0
"""An idle process ends at once; one that has not by then is killed."""


class Member:
    """A process that computes pieces, one at a time."""

    def __init__(self, opening: Opening, vectors: Vectors) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "archipel.simulation.spread", str(theirs.fileno())]
            # What a task prints goes to the screen, never among the answers of --json.
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=2
            )
        self.connection = Connection(ours.detach())
        self.piece: int | None = None
        """Number of the piece it computes."""
        self._first = (to_bytes(opening), to_bytes(vectors))

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def give(self, piece: Piece) -> None:
        """Let it compute a piece.

        Raises:
            OSError: it is gone.
        """
        self.piece = piece.number
        for body in self._first:
            self.connection.send_bytes(body)
        self._first = ()  # type: ignore[assignment]  # said once
        self.connection.send_bytes(to_bytes(piece))

    def answer(self) -> Answer:
        """Wait for what its piece came to.

        Raises:
            EOFError: it is gone.
            OSError: it is gone.
        """
        answer = from_bytes(self.connection.recv_bytes(), Answer)
        self.piece = None
        return answer

    def end(self) -> None:
        """End it, at once where it is at work."""
        self.connection.close()
        if self.piece is not None:
            self._process.kill()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
