"""A worker: `python -m archipel.simulation.search FD` makes trials until the socket FD is closed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

from archipel.simulation.search.bench import Bench
from archipel.simulation.search.messages import GoOn, Opening, Scored, Try
from archipel.simulation.spread.messages import from_bytes, to_bytes


def main() -> None:
    """Serve whoever started this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the search's business: it ends us
    threading.Thread(target=_end_with_starter, daemon=True).start()
    with Connection(int(sys.argv[1])) as connection, suppress(EOFError, ConnectionError):
        bench = Bench(from_bytes(connection.recv_bytes(), Opening))

        def told(step: int, value: float, is_last: bool) -> bool:  # noqa: FBT001 (a `Told`)
            connection.send_bytes(to_bytes(Scored(step=step, value=value, is_last=is_last)))
            return from_bytes(connection.recv_bytes(), GoOn).is_wanted

        connection.send_bytes(to_bytes(bench.open()))
        while True:
            connection.send_bytes(to_bytes(bench.make(from_bytes(connection.recv_bytes(), Try).job, told)))


def _end_with_starter() -> None:
    """End at once when standard input ends: whoever started us was killed, and nobody waits for the trial."""
    while os.read(0, 1):  # not sys.stdin, whose lock this thread would hold while the interpreter ends
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
