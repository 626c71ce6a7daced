"""What is kept: bytes in a spool, plain and sealed; entries in the audit log of control."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

import numpy as np

from archipel.control.services.audit import EventLog
from archipel.control.services.heads import Heads
from archipel.control.store import schema
from archipel.control.store.database import Database
from archipel.data.stores.spool import Spool
from archipel.security import Authority
from archipel.security.sealing import Sealing
from trust.figure import Figure, cpu_seconds

BYTES, ENTRIES, PROOFS = 100_000_000, 2_000, 200
NOW = 1_790_000_000.0


def bytes_at_rest() -> list[Figure]:
    """Write and read 100 MB, plain and sealed; both are hashed and flushed."""
    data = np.random.default_rng(0).bytes(BYTES)
    return [*_at_rest("plain", None, data), *_at_rest("sealed", Sealing(bytes(range(32))), data)]


def _at_rest(name: str, sealing: Sealing | None, data: bytes) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as folder:
        spool = Spool(Path(folder), sealing)
        written = cpu_seconds(lambda: spool.put(data))
        [digest] = spool.digests()
        read = cpu_seconds(lambda: sum(map(len, spool.read(digest))))
    return [
        Figure(f"100 MB at rest: {name}, write", written, "CPU-s"),
        Figure(f"100 MB at rest: {name}, read", read, "CPU-s"),
    ]


def entries() -> list[Figure]:
    """Write entries one a transaction, as control does, then sign heads and prove entries; SQLite, full flushing."""
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as name:
        folder = Path(name)
        database = Database.open(f"sqlite:///{folder / 'control.db'}")
        schema.upgrade(database)
        log = EventLog(database, lambda: NOW)
        heads = Heads(database, Authority.open(folder / "ca", dt.datetime.fromtimestamp(NOW, dt.UTC)), lambda: NOW)

        def write() -> None:
            for number in range(ENTRIES):
                log.write("round.closed", run="r", round=number)

        def prove() -> None:
            for number in range(1, PROOFS + 1):
                heads.proof(number * (ENTRIES // PROOFS))

        figures = [
            Figure("audit log: an entry, in a transaction of its own", 1e3 * cpu_seconds(write) / ENTRIES, "CPU-ms"),
            Figure(f"audit log of {ENTRIES:,}: a proof of an entry", 1e3 * cpu_seconds(prove) / PROOFS, "CPU-ms"),
        ]
        database.close()
    return figures
