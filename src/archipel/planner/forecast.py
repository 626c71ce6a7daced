"""A federated job over a fleet that need not exist: its plan, the site that decides, and what leaving bytes cost.

    found = forecast(fleet, job)
    found.plan.seconds, found.slowest, found.egress

A site with two timed batches gets a prediction; one without gets the wide interval of an unprobed site.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean

from archipel.planner.compression import with_picks
from archipel.planner.estimate import SitePace, batch_rate
from archipel.planner.plan import draw_plan
from archipel.planner.traffic import Sizes
from archipel.spec import DatasetManifest, JobSpec, Plan, SpecError, digest_of
from archipel.spec.compression import CompressionSpec
from archipel.spec.fleet import FleetSite, FleetSpec
from archipel.spec.quantities import Duration, Money, Size

_UNSEEN = digest_of(b"")


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a job would take over a fleet."""

    plan: Plan
    picked: CompressionSpec | None
    """What to write in the job that leaves compression to the plan; None: it does not."""
    slowest: str | None
    """The site that a round with everybody waits for; None: no time can be told."""
    unprobed: tuple[str, ...]
    """Sites without two timed batches: their time is an interval on purpose."""
    egress: Money | None
    """Of the bytes that leave sites; None: no site has a price."""


def forecast(fleet: FleetSpec, job: JobSpec) -> Forecast:
    """Plan `job` over the sites of `fleet` that have rows of its data set.

    Raises:
        SpecError: fewer such sites than the job asks for.
    """
    dataset, named = job.data.dataset, job.federation.sites
    held = {
        site: DatasetManifest(dataset=dataset, digest=_UNSEEN, size_bytes=0, rows=found.rows[dataset])
        for site, found in fleet.sites.items()
        if dataset in found.rows and (not named or site in named)
    }
    if not held:
        raise SpecError(
            f"no site of {fleet.name} has rows of data set {dataset!r}",
            hint=f"give them below [sites.NAME.rows]: {dataset} = 1000",
        )
    paces = {site: pace for site in held if (pace := _pace(fleet.sites[site])) is not None}
    sizes = Sizes(model_bytes=0 if fleet.model is None else round(fleet.model.value))
    planned = with_picks(job, paces, held, sizes)
    plan = draw_plan(planned, held, sizes, paces=paces)
    known = {share.site: share.seconds_per_round[1] for share in plan.participants if share.seconds_per_round}
    return Forecast(
        plan=plan,
        picked=planned.federation.compression if planned is not job else None,
        slowest=max(known, key=lambda site: known[site]) if len(known) == len(held) else None,
        unprobed=tuple(sorted(set(held) - set(paces))),
        egress=_egress(fleet, plan),
    )


def rounds_within(plan: Plan, deadline: Duration) -> int:
    """Return how many of the plan's rounds end within `deadline` by its upper estimate."""
    if plan.seconds is None or plan.seconds[1] <= 0:
        return plan.rounds
    return min(plan.rounds, int(deadline.value / plan.seconds[1] * plan.rounds))


def _pace(site: FleetSite) -> SitePace | None:
    rate = batch_rate(site.probes)
    if rate is None:
        return None
    pace = SitePace(rate=rate)
    return SitePace(
        rate=rate,
        down=pace.down if site.down is None else site.down.value,
        up=pace.up if site.up is None else site.up.value,
    )


def _egress(fleet: FleetSpec, plan: Plan) -> Money | None:
    """Each round asks each site with the same probability; but for updates, sites send equally much."""
    updates = plan.rounds * plan.cohort_size / len(plan.participants)
    rest = plan.up_bytes / len(plan.participants) - updates * mean(share.update_bytes for share in plan.participants)
    costs = [
        price.of(Size(rest + updates * share.update_bytes))
        for share in plan.participants
        if (price := fleet.sites[share.site].egress) is not None
    ]
    return sum(costs[1:], costs[0]) if costs else None
