"""What a plan says of secure aggregation before a run begins."""

from __future__ import annotations

from archipel.federated.secure.legs import LEAST_SITES, is_secure
from archipel.security.secagg import Assumptions, shape_for
from archipel.spec import JobSpec, SecurePlan, SpecError

LEARNS = (
    "of statistics, updates, losses and scores: their sums over the sites, and of no single site",
    "of each site: the counts of rows, labels and bad rows that its check found",
)


HELPER_LEARNS = (
    "who is in each sum, of which run and round, and how long its vector is",
    "the job as control wrote it, with its code; and no vector of any site, nor any sum",
)


def secure_plan(job: JobSpec, cohort: int, fewest: int) -> SecurePlan | None:
    """Return how the sums of `cohort` sites are made secret; None for a job without secure aggregation.

    `fewest` is how many the job wants in a sum at the least.

    Raises:
        SpecError: fewer than 3 sites, or more than can be made safe.
    """
    if not is_secure(job):
        return None
    if cohort < LEAST_SITES:
        raise SpecError(f"secure aggregation of {cohort} sites", hint="it takes at least 3 sites to hide one")
    helper = job.privacy.helper
    if helper is not None:
        least = min(cohort, max(LEAST_SITES, fewest))
        return SecurePlan(
            mode="two-server",
            sites=cohort,
            threshold=None,
            quorum=least,
            learns=LEARNS,
            helper=helper,
            helper_learns=HELPER_LEARNS,
        )
    shape = shape_for(cohort, Assumptions())
    return SecurePlan(sites=cohort, threshold=shape.threshold, quorum=shape.quorum, learns=LEARNS)
