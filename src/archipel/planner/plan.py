"""The plan of a run: who takes part, how large it is, what it moves and how long it may take.

    plan = draw_plan(job, {"biscoe": manifest, …}, Sizes(model_bytes=5_120))

A pure function: what the sites' checks found and what past rounds took come in, the plan comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archipel.data.compression.choice import codec_of
from archipel.planner.compression import round_work, update_bytes
from archipel.planner.estimate import SitePace
from archipel.planner.pace import ASSUMPTIONS, MEASURED, Interval, Reach, Seen, round_seconds, run_seconds, seen_seconds
from archipel.planner.traffic import Sizes, cohort_size, traffic_of
from archipel.security.privacy import promised, require_private_fit
from archipel.spec import DatasetManifest, JobSpec, Plan, SiteShare, SpecError


def draw_plan(
    job: JobSpec,
    manifests: Mapping[str, DatasetManifest],
    sizes: Sizes,
    *,
    refused: Mapping[str, str] | None = None,
    seen: Seen | None = None,
    paces: Mapping[str, SitePace] | None = None,
    reaches: Mapping[str, Reach] | None = None,
) -> Plan:
    """Plan a run of `job` over the sites in `manifests`.

    Args:
        job: What is to be run.
        manifests: Site → what the contract's check found there.
        sizes: Sizes of the blobs that will move.
        refused: Site → why it will not take part.
        seen: What a run of the same work took, if there was one.
        paces: Site → how fast it is, where batches were timed there.
        reaches: Site → what it measured of itself; narrows the interval where nothing was timed.

    Raises:
        SpecError: fewer sites than the job asks for, or its [privacy] promises what it would not keep.
        MissingExtraError: the job asks for differential privacy, and the accountants are not installed.
    """
    require_private_fit(job)
    refused = dict(refused or {})
    sites = sorted(set(manifests) - set(refused))
    if len(sites) < job.federation.min_sites:
        reasons = "; ".join(f"{site}: {reason}" for site, reason in sorted(refused.items()))
        raise SpecError(
            f"{len(sites)} sites can take part, the job asks for {job.federation.min_sites}"
            + (f" ({reasons})" if reasons else ""),
            hint="let more sites join, or mend the reasons given",
        )
    updates = {site: update_bytes(job, site, sizes) for site in sites}
    past = {} if seen is None else seen.round_seconds
    known = {site: seen_seconds(took) for site, took in past.items() if took}
    for site in set(paces or {}) - set(known):
        predicted = (paces or {})[site].seconds(round_work(job, manifests[site], sizes, updates[site]))
        known[site] = (predicted, predicted)
    times = {site: known.get(site) or _guess(job, manifests[site], sizes, (reaches or {}).get(site)) for site in sites}
    cohort = cohort_size(job, len(sites))
    phases = traffic_of(job, len(sites), sizes, update_bytes=sum(updates.values()) / len(sites))
    return Plan(
        job=job.digest,
        participants=tuple(_share(job, site, manifests[site], times[site], updates[site]) for site in sites),
        refused=refused,
        rounds=job.federation.rounds,
        cohort_size=cohort,
        model_bytes=sizes.model_bytes,
        down_bytes=sum(phase.down_bytes for phase in phases),
        up_bytes=sum(phase.up_bytes for phase in phases),
        seconds=_run_seconds(job, cohort, list(times.values()), seen),
        phases=phases,
        privacy=promised(job),
        assumptions=_assumed(sizes, times, known, reaches or {}, compresses=job.federation.compression is not None),
    )


def _guess(job: JobSpec, manifest: DatasetManifest, sizes: Sizes, reach: Reach | None) -> Interval | None:
    if not sizes.model_bytes or not manifest.rows:
        return None
    return round_seconds(job, manifest.rows, sizes.model_bytes, reach)


def _run_seconds(job: JobSpec, cohort: int, each: Sequence[Interval | None], seen: Seen | None) -> Interval | None:
    known = [interval for interval in each if interval is not None]
    return run_seconds(job, cohort, known, seen) if known and len(known) == len(each) else None


def _share(job: JobSpec, site: str, manifest: DatasetManifest, seconds: Interval | None, update: int) -> SiteShare:
    codec = codec_of(job.federation.compression, site)
    return SiteShare(
        site=site,
        rows=manifest.rows,
        labels=manifest.labels,
        seconds_per_round=seconds,
        compression="none" if codec is None else codec.name,
        update_bytes=update,
    )


def _assumed(
    sizes: Sizes,
    times: Mapping[str, Interval | None],
    known: Mapping[str, Interval],
    reaches: Mapping[str, Reach],
    *,
    compresses: bool,
) -> tuple[str, ...]:
    said = ["a site fetches each blob once"]
    if not sizes.model_bytes:
        said.append("the model's size is not known before a first run: bytes leave it out")
    elif sizes.manifest is None and compresses:
        said.append("the model's tensors are not known: its updates are compressed as one float32 vector")
    unknown = [site for site, interval in times.items() if interval is None]
    if unknown:
        said.append(f"no time can be told for {', '.join(unknown)} before a first run")
    guessed = any(interval is not None and site not in known for site, interval in times.items())
    return (*said, *(ASSUMPTIONS if guessed else ()), *((MEASURED,) if guessed and reaches else ()))
