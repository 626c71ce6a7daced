"""What control can prove about its event log: its signed head, that it only grew, that an entry is in it.

Each answer is about one moment of the database. Nothing is kept: a head is signed when somebody asks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from archipel.control.store import log
from archipel.control.store.database import Database
from archipel.security import Authority
from archipel.security.audit import consistency_ranges, fold, fold_ranges, inclusion_ranges, peaks
from archipel.spec import digest_text
from archipel.spec.audit import EntryProof, LogGrowth, SignedHead


class Heads:
    """Signs heads and proves what is in them; safe for several threads."""

    def __init__(self, database: Database, authority: Authority, clock: Callable[[], float]) -> None:
        self._database = database
        self._authority = authority
        self._clock = clock

    def head(self) -> SignedHead:
        """Return the present head."""
        return self._database.read(lambda connection: self._signed(connection, log.size(connection)))

    def growth(self, since: int) -> LogGrowth:
        """Return the present head, with the proof for a witness of the first `since` entries.

        Where the log is shorter than that, the proof begins at what there is; the witness will refuse it.
        """

        def question(connection: Connection) -> LogGrowth:
            size = log.size(connection)
            begin = min(since, size)
            path = _path(connection, consistency_ranges(begin, size))
            return LogGrowth(since=begin, head=self._signed(connection, size), path=path)

        return self._database.read(question)

    def proof(self, number: int) -> EntryProof:
        """Return the proof that entry `number` (from 1) is in the present log.

        Raises:
            UnknownNameError: there is no such entry.
        """

        def question(connection: Connection) -> EntryProof:
            size, event = log.size(connection), log.entry(connection, number)
            path = _path(connection, inclusion_ranges(number - 1, size))
            return EntryProof(entry=number, event=event, head=self._signed(connection, size), path=path)

        return self._database.read(question)

    def _signed(self, connection: Connection, size: int) -> SignedHead:
        root = fold(list(log.hashes(connection, peaks(0, size)).values()))
        return self._authority.vouch(size, root, dt.datetime.fromtimestamp(self._clock(), dt.UTC))


def _path(connection: Connection, ranges: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    known = log.hashes(connection, [place for each in ranges for place in peaks(*each)])
    return tuple(digest_text(item) for item in fold_ranges(ranges, known))
