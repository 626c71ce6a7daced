"""A data set's privacy budget: who may still release what, decided on values alone.

    claim = claim_of(budget, "run-7", job)         # BudgetError where the job's noise is none, or protects another unit
    require_within(budget, claims, claim)          # BudgetError where all that is spent or reserved would cost too much
    require_left(claim, "train")                   # BudgetError where the run has released all that it reserved

A run reserves all its rounds before its first one, so that of two runs that would fit alone the second is refused
before it works. What counts are events, not epsilons: composed together they cost less than epsilons added up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta

from archipel.security.privacy.accounting import epsilon_of
from archipel.security.privacy.events import Composed, Event
from archipel.security.privacy.fit import require_private_fit
from archipel.security.privacy.promise import Releases, releases_of
from archipel.spec import BudgetError, Digest, JobSpec, Name, Value
from archipel.spec.privacy import Delta, Positive

Count = Annotated[int, Meta(ge=0)]
Released = Literal["train", "evaluate"]
"""Kinds of rounds whose answers are counted."""


class Budget(Value, frozen=True, kw_only=True, tag_field="type", tag="budget/1"):
    """What the owner of a data set lets all runs on it cost together."""

    dataset: Name
    unit: Literal["site", "example"] = "example"
    """Whose presence it hides: a training row, or the whole site (then noise is the coordinator's to add)."""
    epsilon: Positive
    delta: Delta = 1e-5


class Claim(Value, frozen=True, kw_only=True, tag_field="type", tag="claim/1"):
    """What one run may release of a data set, and has."""

    run: Name
    dataset: Name
    job: Digest
    """The job it was reserved for: no other may use it."""
    releases: Releases
    """What a training round publishes."""
    rounds: Count
    """Training rounds that are reserved."""
    scorings: Count
    """Evaluations that are; they are of held-out rows, and cost no epsilon."""
    spent: Count = 0
    """Training rounds whose updates were, or may have been, released."""
    scored: Count = 0
    closed: bool = False
    """The run is over: what it reserved and did not spend is free again."""

    @property
    def counted(self) -> int:
        """Rounds that count against the budget."""
        return self.spent if self.closed else self.rounds


def claim_of(budget: Budget | None, run: str, job: JobSpec) -> Claim | None:
    """Return what a run of `job` would reserve; None: it has no noise, and there is no budget.

    Raises:
        BudgetError: there is a budget, and the job cannot be counted against it.
        SpecError: the job promises what it would not keep.
    """
    require_private_fit(job)
    releases, dataset = releases_of(job), job.data.dataset
    if releases is None and budget is None:
        return None
    if releases is None or releases.seeded:
        told = "has no differential privacy" if releases is None else "draws its noise from a seed that everybody knows"
        hint = "let the job ask for noise in [privacy]: central (without a seed), distributed, examples or local"
        raise BudgetError(f"data set {dataset!r} has a privacy budget, and the job {told}", hint=hint)
    if budget is not None and releases.unit != budget.unit:
        message = f"the budget of data set {dataset!r} is for each {budget.unit}, the job's noise for each"
        hint = (
            "[privacy.examples] protects examples; [privacy.distributed], [privacy.local] and [privacy.central] sites"
        )
        raise BudgetError(f"{message} {releases.unit}", hint=hint)
    every, rounds = job.evaluation.every, job.federation.rounds
    scorings = 1 + (rounds // every if every else 0)
    return Claim(run=run, dataset=dataset, job=job.digest, releases=releases, rounds=rounds, scorings=scorings)


def require_within(budget: Budget, claims: Iterable[Claim], new: Claim) -> None:
    """Refuse a claim that would cost more than is left.

    Raises:
        BudgetError: with what is left, and what the run would cost.
        MissingExtraError: dp-accounting is not installed here.
    """
    held = tuple(claims)
    total = cost(budget.delta, (*held, new))
    if total > budget.epsilon:
        before = cost(budget.delta, held)
        raise BudgetError(
            f"data set {budget.dataset!r}: with this run, epsilon would be {total:.3g} at delta {budget.delta:.3g}, "
            f"and its budget is {budget.epsilon:.3g}; {before:.3g} is spent or reserved",
            hint="ask for fewer rounds or more noise, wait for runs that hold a reservation, or have the site's owner "
            "raise the budget (`archipel ledger --set`)",
        )


def require_left(claim: Claim, kind: Released) -> None:
    """Refuse a release beyond what was reserved.

    Raises:
        BudgetError: the run is over, or has released all it reserved.
    """
    if claim.closed:
        raise BudgetError(f"run {claim.run} is over, and holds no budget", hint="begin a new run")
    done, most = (claim.spent, claim.rounds) if kind == "train" else (claim.scored, claim.scorings)
    if done >= most:
        message = f"run {claim.run} has made its {most} releases of kind {kind!r}"
        raise BudgetError(message, hint="a run that asks for more than its job says is not believed; begin a new run")


def cost(delta: float, claims: Iterable[Claim], *, reserved: bool = True) -> float:
    """Return epsilon at `delta` of all claims together; `reserved`: with what they may still release."""
    events: list[Event] = []
    for claim in claims:
        rounds = claim.counted if reserved else claim.spent
        if rounds:
            events.append(claim.releases.event(rounds))
    return epsilon_of(Composed(events=tuple(events)), delta=delta)  # type: ignore[arg-type]
