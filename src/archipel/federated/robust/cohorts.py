"""How many sites a run must have, so that each of its training rounds has enough updates for its robust rule.

least_sites(job.federation)             # `min_sites`, or what the rule needs, whichever is more
require_sites(job.federation, 12)       # SpecError where these are too few
"""

from __future__ import annotations

from itertools import count

from archipel.federated.robust.robust import robust_of
from archipel.federated.stages import share_of
from archipel.spec import SpecError
from archipel.spec.job import FederationSpec


def fewest_updates(federation: FederationSpec, sites: int) -> int:
    """Return how many updates a training round may be folded from at the fewest, of a run of so many sites."""
    cohort = share_of(federation.cohort, sites)
    return cohort if federation.absent == "wait" else share_of(federation.quorum, cohort)


def least_sites(federation: FederationSpec) -> int:
    """Return how many sites a run cannot begin without."""
    robust, least = robust_of(federation), federation.min_sites
    if robust is None:
        return least
    return next(sites for sites in count(least) if robust.fits(fewest_updates(federation, sites), robust.tolerate))


def require_sites(federation: FederationSpec, sites: int) -> None:
    """Refuse a run of too few sites.

    Raises:
        SpecError: fewer than `min_sites`, or than the robust rule needs; the hint is the smallest change that would do.
    """
    if sites < federation.min_sites:
        raise SpecError(
            f"{sites} sites, and the job asks for at least {federation.min_sites}",
            hint="let more sites take part, or lower [federation] min_sites",
        )
    robust = robust_of(federation)
    if robust is not None:
        robust.require(fewest_updates(federation, sites))
