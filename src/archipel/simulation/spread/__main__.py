"""The process itself: `python -m archipel.simulation.spread FD` computes pieces until the socket FD is closed."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from archipel.simulation.spread.bench import Bench
from archipel.simulation.spread.messages import Opening, Piece, Vectors, from_bytes, to_bytes


def main() -> None:
    """Serve whoever started this process, until they close the socket or are gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the simulation's business: it ends us
    with Connection(int(sys.argv[1])) as connection, suppress(EOFError, ConnectionError):
        bench = Bench(from_bytes(connection.recv_bytes(), Opening))
        vectors = from_bytes(connection.recv_bytes(), Vectors)
        mapped = vectors.map()
        while True:
            piece = from_bytes(connection.recv_bytes(), Piece)
            answer = bench.compute(piece, mapped[0], mapped[vectors.deltas_of(piece)])
            connection.send_bytes(to_bytes(answer))


if __name__ == "__main__":
    main()
