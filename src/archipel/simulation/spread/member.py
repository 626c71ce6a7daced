"""One process of a simulation, seen from the simulation: started, told, heard, ended.

It is this very interpreter, started anew and not forked: a fork of a process that runs threads (BLAS, torch, XLA) may
hang. The two speak over a socket pair; whichever side goes away, the other sees the end of it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from multiprocessing.connection import Connection

from archipel.simulation.spread.bench import Deltas
from archipel.simulation.spread.crew import GoneError, Returned
from archipel.simulation.spread.messages import Answer, Opening, Piece, Vectors, from_bytes, to_bytes

GRACE_SECONDS = 5.0
"""An idle process ends at once; one that has not by then is killed."""


class ProcessMember:
    """A process that computes pieces, one at a time."""

    def __init__(self, opening: Opening, vectors: Vectors, mapped: Deltas) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "archipel.simulation.spread", str(theirs.fileno())]
            # What a task prints goes to the screen, never among the answers of --json.
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=2
            )
        self.connection = Connection(ours.detach())
        self.piece: int | None = None
        self._first = (to_bytes(opening), to_bytes(vectors))
        self._vectors = vectors
        self._mapped = mapped
        self._rows = slice(0)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def idle(self) -> bool:
        """Whether it waits for a piece; it takes one while it starts too."""
        return self.piece is None

    def give(self, piece: Piece) -> None:
        """Let it compute a piece; GoneError: it cannot."""
        self.piece = piece.number
        self._rows = self._vectors.deltas_of(piece)
        try:
            for body in self._first:
                self.connection.send_bytes(body)
            self._first = ()  # type: ignore[assignment]  # said once
            self.connection.send_bytes(to_bytes(piece))
        except OSError:
            raise GoneError from None

    def hear(self) -> Returned:
        """Wait for its piece; GoneError: it died over it."""
        try:
            answer = from_bytes(self.connection.recv_bytes(), Answer)
        except (EOFError, OSError):
            raise GoneError from None
        self.piece = None
        return Returned(answer=answer, deltas=self._mapped[self._rows])

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
