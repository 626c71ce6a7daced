"""The privacy ledger of a site: for each data set a budget, what runs have reserved, and what they have released.

    ledger.admit(task)        before work begins: reserves the run's rounds, or raises BudgetError
    spend_within(db, task)    in the transaction that stores the answer, so before a byte of it leaves
    close_within(db, run)     the run is over: what it reserved and did not spend is free again

    budgets    what the site's owner allows
    claims     what each run may release                                  (reserved at its first task)
    releases   what it has: a digest of the task, so that work done again after a crash counts once; of a secure sum its
               number, which the site lets be opened once, from when its masked vector is stored

It lies in the journal's file: an answer and what it costs are one transaction, and neither survives a crash without the
other. It never counts less than what was released; it may count more, where an answer was stored and never sent. A task
that differs in anything (another model, another round) is another release, whatever it says of itself. Control can make
a site refuse; it cannot make it spend more than its owner allows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from archipel.federated.secure.legs import number_of
from archipel.security.privacy.accounting import epsilon_of
from archipel.security.privacy.budget import Budget, Claim, Released, claim_of, cost, require_left, require_within
from archipel.spec import BudgetError, Name, RoundTask, UnknownNameError, Value, decode, digest_value, encode
from archipel.spec.privacy import Delta

SCHEMA = """
CREATE TABLE budgets (dataset TEXT PRIMARY KEY, budget BLOB NOT NULL) STRICT;
CREATE TABLE claims (run TEXT PRIMARY KEY, dataset TEXT NOT NULL, claim BLOB NOT NULL, closed INTEGER NOT NULL) STRICT;
CREATE TABLE releases (run TEXT, kind TEXT, task TEXT, PRIMARY KEY (run, kind, task)) STRICT;
"""
_FORBIDDEN = {
    "statistics": "sums over rows",
    "alone": "scores of a model trained without noise",
    "personalise": "scores of a model trained without noise",
}
"""Kinds of work that would release what no noise is in."""
DELTA = 1e-5
"""At which a data set without a budget is told."""


class RunLine(Value, frozen=True, kw_only=True):
    """One run in the ledger."""

    run: Name
    unit: str
    trusted: str
    """Who adds the noise is believed: "coordinator", or "nobody" where the site adds it."""
    rounds_reserved: int
    rounds_spent: int
    closed: bool
    epsilon: float
    """Of the rounds that count: all that are reserved while the run goes on, those spent once it is over."""


class Account(Value, frozen=True, kw_only=True):
    """A data set in the ledger."""

    dataset: Name
    budget: Budget | None
    """None: there is none, and any run is let in."""
    delta: Delta
    """At which the epsilons hold."""
    spent: float
    """Epsilon of all that was released."""
    reserved: float
    """Epsilon once the runs under way have released all they may."""
    runs: tuple[RunLine, ...] = ()


class Ledger:
    """Reads and writes the ledger's tables through the journal's lock and transactions."""

    def __init__(
        self,
        read: Callable[..., list[tuple[Any, ...]]],
        transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
    ) -> None:
        self._read = read
        self._transaction = transaction

    def set_budget(self, budget: Budget) -> None:
        """Store what a data set's owner allows, in the place of what was allowed before."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO budgets VALUES (?, ?)", (budget.dataset, encode(budget)))

    def budget(self, dataset: str) -> Budget | None:
        """Return a data set's budget."""
        rows = self._read("SELECT budget FROM budgets WHERE dataset = ?", (dataset,))
        return decode(rows[0][0], Budget) if rows else None

    def admit(self, task: RoundTask, ceiling: Budget | None = None) -> None:
        """Let a task's work begin; the first of a run reserves all its rounds.

        `ceiling` is what the site's policy allows on the data set; it holds beside the budget, for runs that begin now.

        Raises:
            BudgetError: the budget does not allow it; nothing was done.
        """
        budget = self.budget(task.job.data.dataset)
        bounds = tuple(bound for bound in (budget, ceiling) if bound is not None)
        if bounds and task.kind in _FORBIDDEN:
            message = (
                f"data set {task.job.data.dataset!r} has a privacy budget, and {_FORBIDDEN[task.kind]} would leave"
            )
            raise BudgetError(f"{message} without noise", hint="ask the site's owner, who set the budget")
        if task.kind in {"check", "train", "evaluate"}:
            self._reserve(task, bounds)
            with self._transaction() as db:
                _require(db, task)

    def close(self, run: str) -> None:
        """Free what a run that will not go on has reserved; what it spent stays.

        Raises:
            UnknownNameError: no such run holds a reservation.
        """
        held = [str(row[0]) for row in self._read("SELECT run FROM claims WHERE NOT closed")]
        if run not in held:
            raise UnknownNameError.of("run with a reservation here:", run, held)
        with self._transaction() as db:
            close_within(db, run)

    def accounts(self) -> tuple[Account, ...]:
        """Return every data set that has a budget or a run with noise, by name."""
        names = self._read("SELECT dataset FROM budgets UNION SELECT dataset FROM claims ORDER BY dataset")
        return tuple(self._account(str(row[0])) for row in names)

    def _account(self, dataset: str) -> Account:
        budget, claims = self.budget(dataset), self._claims(dataset)
        delta = DELTA if budget is None else budget.delta
        return Account(
            dataset=dataset,
            budget=budget,
            delta=delta,
            spent=cost(delta, claims, reserved=False),
            reserved=cost(delta, claims),
            runs=tuple(_line(claim, delta) for claim in claims),
        )

    def _claims(self, dataset: str) -> tuple[Claim, ...]:
        rows = self._read("SELECT run FROM claims WHERE dataset = ? ORDER BY rowid", (dataset,))
        with self._transaction() as db:
            return tuple(claim for (run,) in rows if (claim := _claim(db, run)) is not None)

    def _reserve(self, task: RoundTask, bounds: Sequence[Budget]) -> None:
        """Reserve the run's rounds, unless they are.

        Accounting takes a second, in which the journal must not wait: it is done outside the transaction, and again
        where another run has reserved meanwhile.
        """
        while True:
            with self._transaction() as db:
                if _claim(db, task.run) is not None:
                    return
            held = self._claims(task.job.data.dataset)
            new, *_ = [claim_of(bound, task.run, task.job) for bound in bounds or (None,)]
            if new is None:
                return
            for bound in bounds:
                require_within(bound, held, new)
            with self._transaction() as db:
                if _count(db, new.dataset) == len(held):
                    row = (new.run, new.dataset, encode(new), 0)
                    db.execute("INSERT INTO claims VALUES (?, ?, ?, ?)", row)
                    return


def spend_within(db: sqlite3.Connection, task: RoundTask) -> None:
    """Count the release of a task's answer, in the transaction that stores it.

    Raises:
        BudgetError: the run has none left.
    """
    if task.kind in {"train", "evaluate"}:
        _require(db, task)
        if task.leg in {None, "mask"} and _claim(db, task.run) is not None:
            row = (task.run, task.kind, _release(task))
            db.execute("INSERT OR IGNORE INTO releases VALUES (?, ?, ?)", row)


def close_within(db: sqlite3.Connection, run: str) -> None:
    """Free what a run that is over has reserved and not spent."""
    db.execute("UPDATE claims SET closed = 1 WHERE run = ?", (run,))


def _require(db: sqlite3.Connection, task: RoundTask) -> None:
    """Refuse what the run did not reserve."""
    claim = _claim(db, task.run)
    if claim is None:
        return  # no budget, and no noise that could be counted
    if claim.job != task.job.digest:
        message = f"run {task.run} reserved its budget with another job than it brings now"
        raise BudgetError(message, hint="begin a new run for another job")
    if task.kind not in {"train", "evaluate"}:
        return
    kind: Released = "train" if task.kind == "train" else "evaluate"
    if kind == "evaluate" and task.leg in {None, "compute"} and [model.name for model in task.models] != ["federated"]:
        message = f"run {task.run} asks to score other models than the federated one"
        raise BudgetError(message, hint="the scores of a model made without noise would leave")
    known = db.execute(
        "SELECT 1 FROM releases WHERE run = ? AND kind = ? AND task = ?", (task.run, kind, _release(task))
    ).fetchone()
    if known is None or claim.closed:
        require_left(claim, kind)


def _release(task: RoundTask) -> str:
    """Return what tells a release of a run from its others of the kind."""
    return digest_value(task) if task.leg is None else f"sum {number_of(task.kind, task.step)}"


def _claim(db: sqlite3.Connection, run: str) -> Claim | None:
    """Return a run's claim with what it has released."""
    row = db.execute("SELECT claim, closed FROM claims WHERE run = ?", (run,)).fetchone()
    if row is None:
        return None
    counts = dict(db.execute("SELECT kind, COUNT(*) FROM releases WHERE run = ? GROUP BY kind", (run,)).fetchall())
    claim = decode(row[0], Claim)
    return Claim(
        run=claim.run,
        dataset=claim.dataset,
        job=claim.job,
        releases=claim.releases,
        rounds=claim.rounds,
        scorings=claim.scorings,
        spent=int(counts.get("train", 0)),
        scored=int(counts.get("evaluate", 0)),
        closed=bool(row[1]),
    )


def _count(db: sqlite3.Connection, dataset: str) -> int:
    return int(db.execute("SELECT COUNT(*) FROM claims WHERE dataset = ?", (dataset,)).fetchone()[0])


def _line(claim: Claim, delta: float) -> RunLine:
    counted = claim.counted
    return RunLine(
        run=claim.run,
        unit=claim.releases.unit,
        trusted=claim.releases.trusted,
        rounds_reserved=claim.rounds,
        rounds_spent=claim.spent,
        closed=claim.closed,
        epsilon=epsilon_of(claim.releases.event(counted), delta=delta) if counted else 0.0,
    )
