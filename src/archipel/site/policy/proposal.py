"""Rules on what is proposed: a job and a bundle, whatever is asked of the site later.

Each rule takes the policy, the job and the bundle, and returns why they are refused, or None. The first refusal
counts. What a run may cost is computed by the same accountant as in the site's ledger, which takes a second.
"""

from __future__ import annotations

from collections.abc import Callable

from archipel.federated.robust.cohorts import fewest_updates
from archipel.federated.secure.legs import LEAST_SITES, is_secure
from archipel.security.privacy.budget import Budget, claim_of, require_within
from archipel.security.secagg import Assumptions, quorum_of
from archipel.site.policy.verdict import Refused
from archipel.spec import Blob, BudgetError, JobSpec, SpecError
from archipel.spec.policy import SitePolicy
from archipel.spec.quantities import Size

Rule = Callable[[SitePolicy, JobSpec, Blob], Refused | None]
_NOT_LISTED = "it is none of those that this site takes part with"


def judge_proposal(policy: SitePolicy, job: JobSpec, bundle: Blob) -> Refused | None:
    """Return why a job and its bundle may not run here; None: no rule speaks against it.

    Raises:
        MissingExtraError: the policy bounds epsilon, and dp-accounting is not installed.
    """
    return next(filter(None, (rule(policy, job, bundle) for rule in RULES)), None)


def budget_of(policy: SitePolicy, dataset: str) -> Budget | None:
    """Return what the policy lets all runs on a data set cost together."""
    bounds = policy.epsilon
    if bounds is None or bounds.dataset is None:
        return None
    return Budget(dataset=dataset, unit=bounds.unit, epsilon=bounds.dataset, delta=bounds.delta)


def _never(policy: SitePolicy, _job: JobSpec, _bundle: Blob) -> Refused | None:
    return Refused(rule="approve", message="this site takes part in no work") if policy.approve == "never" else None


def _listed(policy: SitePolicy, job: JobSpec, bundle: Blob) -> Refused | None:
    work = policy.work
    asked = (
        ("datasets", work.datasets, job.data.dataset),
        ("names", work.names, job.name),
        ("jobs", work.jobs, job.digest),
        ("bundles", work.bundles, bundle.digest),
    )
    for rule, known, name in asked:
        if known and name not in known:
            return Refused(rule=f"work.{rule}", message=f"{name}: {_NOT_LISTED}")
    return None


def _secure(policy: SitePolicy, job: JobSpec, _bundle: Blob) -> Refused | None:
    if not policy.secure_aggregation or is_secure(job):
        return None
    message = "this site takes part with secure aggregation only, and the job has none"
    return Refused(rule="secure_aggregation", message=message, hint='[privacy] secure_aggregation = "secagg"')


def _helped(policy: SitePolicy, job: JobSpec, _bundle: Blob) -> Refused | None:
    """Trust a second server with sums only where the owner named it, or asks for no secure sums at all."""
    helper = job.privacy.helper
    is_open = not policy.helpers and not policy.secure_aggregation and not policy.peers
    if helper is None or is_open or helper in policy.helpers:
        return None
    message = f"{helper} would take the masks off this site's sums, and is no helper of this site's"
    return Refused(
        rule="helpers", message=message, hint='name it in [helpers], or [privacy] secure_aggregation = "secagg"'
    )


def _cohort(policy: SitePolicy, job: JobSpec, _bundle: Blob) -> Refused | None:
    """Hold what the job promises at the least; under secure aggregation, sites may drop out down to the quorum."""
    fewest = fewest_updates(job.federation, job.federation.min_sites)
    if job.privacy.helper is not None:
        fewest = max(fewest, LEAST_SITES)
    elif is_secure(job):
        fewest = quorum_of(max(fewest, LEAST_SITES), Assumptions())  # no site takes part in a sum of fewer than 3
    if fewest >= policy.least_sites:
        return None
    message = f"a round of this job may have {fewest} sites, and this site wants {policy.least_sites} at the least"
    return Refused(rule="least_sites", message=message, hint="raise min_sites (or cohort, or quorum) in [federation]")


def _noise(policy: SitePolicy, job: JobSpec, _bundle: Blob) -> Refused | None:
    bounds = policy.epsilon
    if bounds is None:
        return None
    one_run = Budget(dataset=job.data.dataset, unit=bounds.unit, epsilon=bounds.run, delta=bounds.delta)
    try:
        claim = claim_of(one_run, job.name, job)
        if claim is not None:
            require_within(one_run, (), claim)
    except BudgetError as error:
        return Refused(rule="epsilon.run", message=error.message, hint="ask for fewer rounds or more noise")
    except SpecError as error:
        return Refused(rule="epsilon.run", message=error.message, hint=error.hint)
    return None


def _memory(policy: SitePolicy, job: JobSpec, _bundle: Blob) -> Refused | None:
    most, needed = policy.limits.memory, job.resources.memory_mb
    if most is None or needed is None or Size(needed * 1e6) <= most:
        return None
    return Refused(rule="limits.memory", message=f"the job needs {Size(needed * 1e6)}, and here it gets {most}")


RULES: tuple[Rule, ...] = (_never, _listed, _secure, _helped, _cohort, _noise, _memory)
"""In this order: what is cheap to say comes before the accounting."""
