"""What a plan says of secure aggregation before a run begins."""

from __future__ import annotations

from archipel.federated.secure.legs import is_secure
from archipel.security.secagg import Assumptions, shape_for
from archipel.spec import JobSpec, SecurePlan

LEARNS = (
    "of statistics, updates, losses and scores: their sums over the sites, and of no single site",
    "of each site: the counts of rows, labels and bad rows that its check found",
)


def secure_plan(job: JobSpec, cohort: int) -> SecurePlan | None:
    """Return how the sums of `cohort` sites are made secret; None for a job without secure aggregation.

    Raises:
        SpecError: fewer than 3 sites, or more than can be made safe.
    """
    if not is_secure(job):
        return None
    shape = shape_for(cohort, Assumptions())
    return SecurePlan(sites=cohort, threshold=shape.threshold, quorum=shape.quorum, learns=LEARNS)
