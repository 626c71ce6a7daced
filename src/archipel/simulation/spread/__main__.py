"""The process itself: `python -m archipel.simulation.spread FD` computes pieces until the socket FD is closed."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from archipel.simulation.opening import open_here
from archipel.simulation.spread.messages import (
    Answer,
    Failure,
    Figures,
    Opening,
    Piece,
    Vectors,
    from_bytes,
    to_bytes,
)
from archipel.spec import ArchipelError
from archipel.tasks.executors import open_executor
from archipel.tasks.port import Executor, Weights


class Bench:
    """What a process computes with; opened at its first piece, so that a failure to open is that piece's answer."""

    def __init__(self, opening: Opening, vectors: Vectors) -> None:
        self._opening = opening
        self._vectors = vectors.map()
        self._executor: Executor | None = None

    def compute(self, piece: Piece) -> Answer:
        """Train the piece's clients; their deltas go into the vectors."""
        figures: list[Figures] = []
        weights = Weights(manifest=piece.manifest, vector=self._vectors[0])
        try:
            for row, one in enumerate(self._opened().train(weights, piece.plans), start=piece.row):
                self._vectors[row] = one.delta
                told = Figures(
                    examples=one.examples, steps=one.steps, loss_sum=one.loss_sum, loss_examples=one.loss_examples
                )
                figures.append(told)
        except ArchipelError as error:
            return Answer(figures=tuple(figures), failure=Failure.of(error))
        return Answer(figures=tuple(figures))

    def _opened(self) -> Executor:
        if self._executor is None:
            opening = self._opening
            adapter, _ = open_here(opening.job, Path(opening.folder), Path(opening.data))
            self._executor = open_executor(opening.executor, adapter)
        return self._executor


def main() -> None:
    """Serve whoever started this process, until they close the socket or are gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the simulation's business: it ends us
    with Connection(int(sys.argv[1])) as connection, suppress(EOFError, ConnectionError):
        bench = Bench(
            from_bytes(connection.recv_bytes(), Opening),
            from_bytes(connection.recv_bytes(), Vectors),
        )
        while True:
            connection.send_bytes(to_bytes(bench.compute(from_bytes(connection.recv_bytes(), Piece))))


if __name__ == "__main__":
    main()
