"""What a site's people have approved, and what its runs were begun with: tables in the journal's file.

ask(task, now)              a pair of job and bundle that nobody has decided on waits for somebody
decide(asked, "approved")   a person has; also while the agent runs
standing(task)              all that is remembered and bears on a task
pin(task)                   a task was let in: its run stays with this job and this bundle, its stage with this task

approvals  a pair of job and bundle, and what was decided           (for ever)
pins       the job and bundle of a run's first task                 (until the run is forgotten)
stages     the task a run asked in each of its stages               (until the run is forgotten)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import msgspec

from archipel.federated.secure.legs import PROTOCOL
from archipel.spec import Blob, Digest, JobSpec, Name, RoundTask, UnknownNameError, Value, decode, digest_value, encode

SCHEMA = """
CREATE TABLE approvals (
    id TEXT PRIMARY KEY, approval BLOB NOT NULL,
    state TEXT GENERATED ALWAYS AS (json_extract(CAST(approval AS TEXT), '$.state'))
) STRICT;
CREATE TABLE pins (run TEXT PRIMARY KEY, job TEXT NOT NULL, bundle TEXT NOT NULL) STRICT;
CREATE TABLE stages (run TEXT, stage TEXT, subject TEXT NOT NULL, PRIMARY KEY (run, stage)) STRICT;
"""
Decision = Literal["approved", "refused"]
SHOWN_DIGITS = 12


class Approval(Value, frozen=True, kw_only=True, tag_field="type", tag="approval/1"):
    """A pair of job and bundle, and what a person at the site says to it."""

    id: str
    """Hex of a digest of both. People name it by its beginning, decisions are looked up by all of it: whoever makes up
    jobs can make up two with the same beginning."""
    run: Name
    """The run that asked first."""
    job: JobSpec
    bundle: Blob
    asked_at: float
    """Seconds since the Unix epoch."""
    state: Literal["waiting", "approved", "refused"] = "waiting"
    decided_at: float | None = None
    decided_by: str = ""
    """Name of the account at the site's machine."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.id[:SHOWN_DIGITS]


class Pin(Value, frozen=True, kw_only=True):
    """What a run was begun with."""

    job: Digest
    bundle: Digest


class Standing(Value, frozen=True, kw_only=True):
    """All that a site remembers and that bears on a task."""

    pin: Pin | None = None
    """None: the run has not begun here."""
    begun: Digest | None = None
    """Subject of the task that was let in for the same stage of the run; None: none was."""
    approval: Literal["waiting", "approved", "refused"] | None = None
    """None: nobody has been asked."""
    waiting: int = 0
    """How many pairs wait for a decision."""
    keeps_model: bool = False
    """Is the model of the task one that this site made and that is to stay here?"""


class Approvals:
    """Reads and writes those tables through the journal's lock and transactions."""

    def __init__(
        self,
        read: Callable[..., list[tuple[Any, ...]]],
        transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
    ) -> None:
        self._read = read
        self._transaction = transaction

    def all(self) -> tuple[Approval, ...]:
        """Return every pair that was ever asked about, the first one first."""
        rows = self._read("SELECT approval FROM approvals ORDER BY rowid")
        return tuple(decode(row[0], Approval) for row in rows)

    def ask(self, task: RoundTask, now: float) -> Approval:
        """Put a task's pair of job and bundle before the site's people, unless it is; return how it stands."""
        id_ = id_of(task.job, task.bundle)
        new = Approval(id=id_, run=task.run, job=task.job, bundle=task.bundle, asked_at=now)
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO approvals (id, approval) VALUES (?, ?)", (id_, encode(new)))
            return _approval(db, id_) or new

    def named(self, name: str) -> Approval:
        """Return the pair whose id begins with `name`.

        Raises:
            UnknownNameError: nobody was asked about such a one, or about several.
        """
        known = self.all()
        found = [one for one in known if len(name) >= SHOWN_DIGITS and one.id.startswith(name)]
        if len(found) > 1:
            ids = ", ".join(one.id for one in found)
            raise UnknownNameError(f"{name} is the beginning of {len(found)} approvals", hint=f"give all of it: {ids}")
        if not found:
            raise UnknownNameError.of("approval", name, [one.name for one in known])
        return found[0]

    def decide(self, asked: Approval, decision: Decision, *, now: float, by: str) -> Approval:
        """Keep a person's decision, in the place of an earlier one."""
        decided = msgspec.structs.replace(asked, state=decision, decided_at=now, decided_by=by)
        with self._transaction() as db:
            db.execute("UPDATE approvals SET approval = ? WHERE id = ?", (encode(decided), asked.id))
        return decided

    def standing(self, task: RoundTask) -> Standing:
        """Return what is remembered of a task's run, stage, model, job and bundle."""
        pin = self._read("SELECT job, bundle FROM pins WHERE run = ?", (task.run,))
        begun = self._read("SELECT subject FROM stages WHERE run = ? AND stage = ?", (task.run, _stage(task)))
        model = "" if task.model is None else task.model.digest
        state = self._read("SELECT state FROM approvals WHERE id = ?", (id_of(task.job, task.bundle),))
        [(waiting,)] = self._read("SELECT COUNT(*) FROM approvals WHERE state = 'waiting'")
        return Standing(
            pin=Pin(job=pin[0][0], bundle=pin[0][1]) if pin else None,
            begun=begun[0][0] if begun else None,
            approval=state[0][0] if state else None,
            waiting=waiting,
            keeps_model=bool(self._read("SELECT 1 FROM kept WHERE digest = ?", (model,))),
        )

    def pin(self, task: RoundTask) -> bool:
        """Bind a run to a task's job and bundle, and its stage to the task; is the run new?"""
        with self._transaction() as db:
            row = (task.run, task.job.digest, task.bundle.digest)
            new = db.execute("INSERT OR IGNORE INTO pins VALUES (?, ?, ?)", row).rowcount > 0
            if is_work(task):
                row = (task.run, _stage(task), subject_of(task))
                db.execute("INSERT OR IGNORE INTO stages VALUES (?, ?, ?)", row)
            return new


def id_of(job: JobSpec, bundle: Blob) -> str:
    """Return the id of a pair of job and bundle."""
    return digest_value([job.digest, bundle.digest]).removeprefix("sha256:")


def is_work(task: RoundTask) -> bool:
    """Is something computed from rows? The other legs of a secure sum only speak of what was."""
    return task.leg not in PROTOCOL


def subject_of(task: RoundTask) -> Digest:
    """Return the digest of what a task asks, whatever round or attempt it is asked in."""
    return digest_value(msgspec.structs.replace(task, round=0, leg=None, message=b""))


def forget_within(db: sqlite3.Connection, run: str) -> None:
    """Drop what a run that is over was begun with."""
    db.execute("DELETE FROM pins WHERE run = ?", (run,))
    db.execute("DELETE FROM stages WHERE run = ?", (run,))


def _stage(task: RoundTask) -> str:
    """Name the part of a run that a task is: an export of the common model is another one than that of the own."""
    return f"{task.kind}/{task.step}/{'shared' if task.share else 'own'}"


def _approval(db: sqlite3.Connection, id_: str) -> Approval | None:
    row = db.execute("SELECT approval FROM approvals WHERE id = ?", (id_,)).fetchone()
    return None if row is None else decode(row[0], Approval)
