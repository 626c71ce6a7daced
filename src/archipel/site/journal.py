"""The site's own durable memory: one SQLite file in the site's folder.

    settings   who this site is, and where its control plane is          (join)
    datasets   data set name → folder or file                            (join)
    work       RoundTask, and its answer once there is one               (until control's receipt)
    state      per-run memory of the site, such as SCAFFOLD's c_i        (newest two per name, until forgotten)
    kept       blobs of a run that never leave this site                 (until forgotten)
    recent     blobs of a run's last answered task: the next one uses them again
    plain      a run's answer that is only to be added to others'   (until its next one, or until forgotten)
    sessions   secure aggregation: the session of that sum, secrets and all (as long as its answer)
    joined     sessions a site has been in, and whether it released shares  (for ever: no run's name is used again)
    served     which model to answer with, and which copy of it that is here
    heads      signed heads of control's audit log, as they were accepted    (newest 1000)
    log        the site's own audit log, with the places of its tree         (never changed)
    budgets, claims, releases      see archipel.site.ledger
    approvals, pins, stages        see archipel.site.approvals

Rules: every change is one transaction with synchronous=FULL; an answer and the state it leads to are one
transaction; blobs are on disk before the row that names them. A newer schema is refused, not guessed.

Example:
    >>> import tempfile, pathlib
    >>> journal = Journal(pathlib.Path(tempfile.mkdtemp()) / "journal.db")
    >>> journal.remember("site", "torgersen"); journal.setting("site")
    'torgersen'
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from archipel.security.audit import grow, is_whole, peaks
from archipel.security.secagg import History
from archipel.site import approvals
from archipel.site.ledger import SCHEMA as LEDGER_SCHEMA
from archipel.site.ledger import Ledger, close_within, spend_within
from archipel.spec import (
    AuditError,
    Blob,
    Event,
    Refusal,
    RoundTask,
    StateError,
    StorageFullError,
    Update,
    decode,
    encode,
    failpoint,
)
from archipel.spec.audit import SignedHead
from archipel.spec.wire import Serve

VERSION = 3
_STATES_KEPT = 2
_HEADS_KEPT = 1000
_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE datasets (name TEXT PRIMARY KEY, path TEXT NOT NULL) STRICT;
CREATE TABLE work (run TEXT, round INTEGER, task BLOB NOT NULL, answer BLOB, PRIMARY KEY (run, round)) STRICT;
CREATE TABLE state (run TEXT, round INTEGER, name TEXT, blob BLOB NOT NULL, PRIMARY KEY (run, round, name)) STRICT;
CREATE TABLE kept (run TEXT, digest TEXT, PRIMARY KEY (run, digest)) STRICT;
CREATE TABLE recent (run TEXT, digest TEXT, PRIMARY KEY (run, digest)) STRICT;
CREATE TABLE served (name TEXT PRIMARY KEY, serve BLOB NOT NULL, answering BLOB NOT NULL) STRICT;
"""
_HEADS_AND_LOG = """
CREATE TABLE heads (size INTEGER PRIMARY KEY, head BLOB NOT NULL) STRICT;
CREATE TABLE log (number INTEGER PRIMARY KEY, event BLOB NOT NULL) STRICT;
CREATE TABLE log_places (level INTEGER, place INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, place)) STRICT;
"""
_SECURE_SCHEMA = """
CREATE TABLE plain (run TEXT PRIMARY KEY, number INTEGER NOT NULL, answer BLOB NOT NULL, blobs TEXT NOT NULL) STRICT;
CREATE TABLE sessions (run TEXT, number INTEGER, state BLOB NOT NULL, vector BLOB, PRIMARY KEY (run, number)) STRICT;
CREATE TABLE joined (run TEXT, session TEXT, PRIMARY KEY (run, session)) STRICT;
CREATE TABLE released (run TEXT, number INTEGER, PRIMARY KEY (run, number)) STRICT;
"""
SCHEMAS = (_SCHEMA, _HEADS_AND_LOG + LEDGER_SCHEMA + _SECURE_SCHEMA, approvals.SCHEMA)
"""What each version adds to the one before."""

Answer = Update | Refusal
_read_answer = msgspec.json.Decoder(Answer)
_read_answering = msgspec.json.Decoder(tuple[Literal["global", "personalised"], Blob])


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One task in hand; `answer` is None until it is done."""

    task: RoundTask
    answer: Answer | None = None


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What control asked to be served, and the ONNX file here that answers."""

    serve: Serve
    copy: Literal["global", "personalised"]
    onnx: Blob


class Journal:
    """Reads and writes the journal; safe to call from several threads of the one process that holds the folder."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        path.touch(mode=0o600)
        path.chmod(0o600)  # sessions hold secrets, as key.pem does
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        with self._named_errors():
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")
            self._prepare()
        self.ledger = Ledger(self._read, self._transaction)
        """What runs have cost the data sets here."""
        self.approvals = approvals.Approvals(self._read, self._transaction)
        """What people here have approved, and what runs were begun with."""

    def close(self) -> None:
        """Close the file once no other thread is at it; nothing is lost either way."""
        with self._lock:
            self._db.close()

    # ---- who and what ---------------------------------------------------------------------------------------

    def remember(self, name: str, value: str) -> None:
        """Store one setting."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def setting(self, name: str) -> str | None:
        """Return a setting, None where it was never stored."""
        rows = self._read("SELECT value FROM settings WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def register(self, datasets: Mapping[str, Path]) -> None:
        """Store where data sets are, beside those already known."""
        with self._transaction() as db:
            rows = [(name, str(path)) for name, path in sorted(datasets.items())]
            db.executemany("INSERT OR REPLACE INTO datasets VALUES (?, ?)", rows)

    def datasets(self) -> dict[str, Path]:
        """Return data set name → path."""
        return {str(name): Path(path) for name, path in self._read("SELECT name, path FROM datasets ORDER BY name")}

    # ---- work -----------------------------------------------------------------------------------------------

    def assign(self, task: RoundTask) -> Work:
        """Take a task into the journal, unless it is there; return what is known of it."""
        failpoint("site.assign.before_journal")
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO work VALUES (?, ?, ?, NULL)", (task.run, task.round, encode(task)))
        failpoint("site.assign.after_journal")
        held = self.work(task.run, task.round)
        assert held is not None
        return held

    def work(self, run: str, round_: int) -> Work | None:
        """Return one piece of work, None if it is not in hand."""
        rows = self._read("SELECT task, answer FROM work WHERE run = ? AND round = ?", (run, round_))
        return _work(*rows[0]) if rows else None

    def in_hand(self) -> tuple[Work, ...]:
        """Return all work without a receipt, oldest round first."""
        return tuple(_work(*row) for row in self._read("SELECT task, answer FROM work ORDER BY run, round"))

    def finish(self, task: RoundTask, answer: Answer, state: Mapping[str, Blob]) -> None:
        """Store a task's answer, the state it leads to and what it costs, as one: all or nothing survives a crash.

        Raises:
            BudgetError: the run has no release left; nothing was stored.
        """
        failpoint("site.finish.before_journal")
        parts = answer.parts.values() if isinstance(answer, Update) else ()
        kept = [part.blob.digest for part in parts if not part.shared]
        key = (task.run, task.round)
        with self._transaction() as db:
            if isinstance(answer, Update):
                spend_within(db, task)
            db.execute("UPDATE work SET answer = ? WHERE run = ? AND round = ?", (encode(answer), *key))
            rows = [(*key, name, encode(blob)) for name, blob in state.items()]
            db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)", rows)
            db.executemany("INSERT OR IGNORE INTO kept VALUES (?, ?)", [(task.run, digest) for digest in kept])
            failpoint("site.finish.inside_journal")
        failpoint("site.finish.after_journal")

    def reopen(self, task: RoundTask) -> None:
        """Forget a task's answer, because its bytes were lost: it will be done again."""
        with self._transaction() as db:
            db.execute("UPDATE work SET answer = NULL WHERE run = ? AND round = ?", (task.run, task.round))

    def clear(self, task: RoundTask, *, counted: bool) -> set[str]:
        """Drop a task that is over; return the digests that nothing needs any more.

        `counted`: control has the answer. Otherwise (stale, given up) the state it led to is dropped as well, for
        what control adds up must agree with what its sites remember.
        """
        failpoint("site.receipt.before_journal")
        held = self.work(task.run, task.round)
        used = set(task.blobs()) | _parts(held)
        with self._transaction() as db:
            used |= {row[0] for row in db.execute("SELECT digest FROM recent WHERE run = ?", (task.run,))}
            db.execute("DELETE FROM work WHERE run = ? AND round = ?", (task.run, task.round))
            db.execute("DELETE FROM recent WHERE run = ?", (task.run,))
            rows = [(task.run, digest) for digest in task.blobs()]
            db.executemany("INSERT OR IGNORE INTO recent VALUES (?, ?)", rows)
            if not counted:
                query = "DELETE FROM state WHERE run = ? AND round = ? RETURNING blob"
                used |= _digests(db.execute(query, (task.run, task.round)).fetchall())
            used |= _prune_states(db, task.run)
        failpoint("site.receipt.after_journal")
        return used - self.live()

    # ---- per-run state --------------------------------------------------------------------------------------

    def recall(self, run: str, before: int) -> dict[str, Blob]:
        """Return the newest state of a run, by name, from rounds before `before`."""
        rows = self._read(
            "SELECT name, blob FROM state WHERE run = ? AND round < ? ORDER BY round", (run, before)
        )  # later rounds overwrite earlier ones in the mapping
        return {str(name): decode(blob, Blob) for name, blob in rows}

    def forget(self, run: str, but: str = "") -> set[str]:
        """Drop all of a run except its state named `but`, and what is served; return the digests nothing needs now."""
        used = {digest for work in self.in_hand() if work.task.run == run for digest in _all_digests(work)}
        with self._transaction() as db:
            query = "DELETE FROM state WHERE run = ? AND name != ? RETURNING blob"
            used |= _digests(db.execute(query, (run, but)).fetchall())
            for row in db.execute("DELETE FROM plain WHERE run = ? RETURNING blobs", (run,)).fetchall():
                used |= set(decode(row[0].encode(), list[str]))
            used |= _vectors(db.execute("DELETE FROM sessions WHERE run = ? RETURNING vector", (run,)).fetchall())
            for table in ("kept", "recent"):
                used |= {row[0] for row in db.execute(f"DELETE FROM {table} WHERE run = ? RETURNING digest", (run,))}  # noqa: S608
            db.execute("DELETE FROM work WHERE run = ?", (run,))
            close_within(db, run)
            approvals.forget_within(db, run)
        return used - self.live()

    def remembered(self, but: str = "") -> tuple[str, ...]:
        """Return the runs of which more is kept than their state named `but`, by name."""
        query = """SELECT run FROM work UNION SELECT run FROM kept UNION SELECT run FROM recent
                   UNION SELECT run FROM plain UNION SELECT run FROM sessions
                   UNION SELECT run FROM state WHERE name != ? UNION SELECT run FROM claims WHERE NOT closed
                   UNION SELECT run FROM pins
                   ORDER BY run"""
        return tuple(str(row[0]) for row in self._read(query, (but,)))

    def live(self) -> set[str]:
        """Return the digests of all blobs the journal still needs."""
        digests = {digest for work in self.in_hand() for digest in _all_digests(work)}
        digests |= {decode(row[0], Blob).digest for row in self._read("SELECT blob FROM state")}
        digests |= {row[0] for row in self._read("SELECT digest FROM kept UNION SELECT digest FROM recent")}
        for (blobs,) in self._read("SELECT blobs FROM plain"):
            digests |= set(decode(blobs.encode(), list[str]))
        digests |= _vectors(self._read("SELECT vector FROM sessions"))
        return digests | {serving.onnx.digest for serving in self.served()}

    # ---- secure aggregation ---------------------------------------------------------------------------------

    def plain(self, run: str, number: int) -> bytes | None:
        """See `worker.sum_memory.Secrets`."""
        rows = self._read("SELECT answer FROM plain WHERE run = ? AND number = ?", (run, number))
        return bytes(rows[0][0]) if rows else None

    def keep_plain(self, run: str, number: int, plain: bytes, blobs: frozenset[str]) -> set[str]:
        """See `worker.sum_memory.Secrets`."""
        with self._transaction() as db:
            before = db.execute("DELETE FROM plain WHERE run = ? RETURNING blobs", (run,)).fetchall()
            used = _left(db, run, number)
            row = (run, number, plain, encode(sorted(blobs)).decode())
            db.execute("INSERT INTO plain VALUES (?, ?, ?, ?)", row)
        used |= {digest for (digests,) in before for digest in decode(digests.encode(), list[str])}
        return used - self.live()

    def leave_others(self, run: str, number: int) -> set[str]:
        """See `worker.sum_memory.Secrets`."""
        with self._transaction() as db:
            used = _left(db, run, number)
        return used - self.live()

    def session(self, run: str, number: int) -> tuple[bytes, Blob | None] | None:
        """See `worker.sum_memory.Secrets`."""
        rows = self._read("SELECT state, vector FROM sessions WHERE run = ? AND number = ?", (run, number))
        return next(((bytes(state), vector and decode(vector, Blob)) for state, vector in rows), None)

    def keep_session(self, run: str, number: int, state: bytes, vector: Blob | None, history: History) -> None:
        """See `worker.sum_memory.Secrets`; before it returns, nothing of the step may leave the site."""
        failpoint("site.session.before_journal")
        with self._transaction() as db:
            row = (run, number, state, None if vector is None else encode(vector))
            db.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)", row)
            joined = [(run, session) for session in sorted(history.sessions)]
            db.executemany("INSERT OR IGNORE INTO joined VALUES (?, ?)", joined)
            db.executemany("INSERT OR IGNORE INTO released VALUES (?, ?)", sorted(history.released))
            failpoint("site.session.inside_journal")
        failpoint("site.session.after_journal")

    def history(self, run: str) -> History:
        """See `worker.sum_memory.Secrets`."""
        sessions = self._read("SELECT session FROM joined WHERE run = ?", (run,))
        released = self._read("SELECT run, number FROM released WHERE run = ?", (run,))
        return History(
            sessions=frozenset(str(row[0]) for row in sessions),
            released=frozenset((str(run), int(number)) for run, number in released),
        )

    # ---- serving --------------------------------------------------------------------------------------------

    def serve(self, serving: Serving) -> None:
        """Remember which model to answer with, one a name; its file must be on disk."""
        failpoint("site.serve.before_journal")
        row = (serving.serve.model.name, encode(serving.serve), encode((serving.copy, serving.onnx)))
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO served VALUES (?, ?, ?)", row)
        failpoint("site.serve.after_journal")

    def served(self) -> tuple[Serving, ...]:
        """Return what is to be served, by name."""
        return tuple(_serving(*row) for row in self._read("SELECT serve, answering FROM served ORDER BY name"))

    # ---- audit ----------------------------------------------------------------------------------------------

    def keep_head(self, signed: SignedHead) -> None:
        """Keep a head of control's audit log that was accepted; the newest thousand stay."""
        query = "DELETE FROM heads WHERE size NOT IN (SELECT size FROM heads ORDER BY size DESC LIMIT ?)"
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO heads VALUES (?, ?)", (signed.head.size, encode(signed)))
            db.execute(query, (_HEADS_KEPT,))

    def heads(self) -> tuple[SignedHead, ...]:
        """Return the heads that are kept, the newest last."""
        return tuple(decode(row[0], SignedHead) for row in self._read("SELECT head FROM heads ORDER BY size"))

    def forget_heads(self, event: Event) -> None:
        """Forget the heads that were accepted, so that the next one is believed; `event` says so in the site's log."""
        with self._transaction() as db:
            db.execute("DELETE FROM heads")
            _log_within(db, event)

    def log(self, event: Event) -> None:
        """Write an entry at the end of the site's own audit log."""
        with self._transaction() as db:
            _log_within(db, event)

    def logged(self) -> tuple[Event, ...]:
        """Return the site's own audit log, the oldest entry first.

        Raises:
            AuditError: its entries are not those its tree was made of.
        """
        entries = [row[0] for row in self._read("SELECT event FROM log ORDER BY number")]
        places = {(row[0], row[1]): row[2] for row in self._read("SELECT level, place, hash FROM log_places")}
        if not is_whole(entries, places):
            hint = "restore the folder from a backup, and ask who could write to it"
            raise AuditError(f"the site's own audit log in {self._path} was changed", hint=hint)
        return tuple(decode(entry, Event) for entry in entries)

    # ---- the file -------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found < VERSION:
            missing = "".join(SCHEMAS[found:])
            self._db.executescript(f"BEGIN; {missing} PRAGMA user_version = {VERSION}; COMMIT;")
        elif found != VERSION:
            hint = "start the archipel version that wrote it, or a newer one"
            raise StateError(f"{self._path} has schema version {found}, this archipel knows {VERSION}", hint=hint)

    def _read(self, query: str, values: tuple[str | int, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._named_errors():
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._named_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                hint = "free space on that disk; the site goes on by itself"
                raise StorageFullError(f"no space left for {self._path}", hint=hint) from error
            raise StateError(f"cannot use {self._path}: {error}", hint="is another agent using it?") from error
        except sqlite3.DatabaseError as error:
            hint = "restore the folder from a backup, or join again in a new folder"
            raise StateError(f"{self._path} is damaged: {error}", hint=hint) from error


def _log_within(db: sqlite3.Connection, event: Event) -> None:
    (size,) = db.execute("SELECT COUNT(*) FROM log").fetchone()
    query = "SELECT hash FROM log_places WHERE level = ? AND place = ?"
    standing = [row[0] for place in peaks(0, size) for row in db.execute(query, place)]
    growth = grow(size, standing, (encode(event),))
    db.execute("INSERT INTO log VALUES (?, ?)", (growth.size, encode(event)))
    rows = [(*place, value) for place, value in growth.places.items()]
    db.executemany("INSERT INTO log_places VALUES (?, ?, ?)", rows)


def _work(task: bytes, answer: bytes | None) -> Work:
    return Work(task=decode(task, RoundTask), answer=None if answer is None else _read_answer.decode(answer))


def _left(db: sqlite3.Connection, run: str, number: int) -> set[str]:
    """Drop the sessions of a run's other sums; return their vectors."""
    query = "DELETE FROM sessions WHERE run = ? AND number != ? RETURNING vector"
    return _vectors(db.execute(query, (run, number)).fetchall())


def _vectors(rows: list[Any]) -> set[str]:
    return {decode(row[0], Blob).digest for row in rows if row[0] is not None}


def _parts(work: Work | None) -> set[str]:
    if work is None or not isinstance(work.answer, Update):
        return set()
    return {part.blob.digest for part in work.answer.parts.values()}


def _all_digests(work: Work) -> set[str]:
    return set(work.task.blobs()) | _parts(work)


def _serving(serve: bytes, answering: bytes) -> Serving:
    copy, onnx = _read_answering.decode(answering)
    return Serving(serve=decode(serve, Serve), copy=copy, onnx=onnx)


def _prune_states(db: sqlite3.Connection, run: str) -> set[str]:
    """Delete all but the newest states of each name; return the digests of the deleted ones."""
    query = """DELETE FROM state WHERE run = ?1 AND rowid IN (
        SELECT rowid FROM (SELECT rowid, ROW_NUMBER() OVER (PARTITION BY name ORDER BY round DESC) AS age
                           FROM state WHERE run = ?1) WHERE age > ?2) RETURNING blob"""
    return _digests(db.execute(query, (run, _STATES_KEPT)).fetchall())


def _digests(rows: list[Any]) -> set[str]:
    return {decode(row[0], Blob).digest for row in rows}
