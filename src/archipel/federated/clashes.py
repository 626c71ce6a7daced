"""Which jobs cannot have secure aggregation, or compressed updates; each is refused by name.

require_secure(job, sites)  before a plan is drawn or a run begins; nothing for a job without it
require_compressed(job)     likewise, of [federation.compression]
require_simulated(job)      before a population of virtual clients is simulated
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from archipel.data.compression.choice import codec_of
from archipel.federated.algorithms import algorithm_of
from archipel.federated.secure.legs import LEAST_SITES, is_secure
from archipel.spec import JobSpec, SpecError, UnknownNameError


def require_secure(job: JobSpec, sites: Iterable[str] = ()) -> None:
    """Refuse what does not go together with secure aggregation; `sites` are those of the run, once they are known.

    Raises:
        SpecError: which two of the job's values, and what to change.
    """
    _require_helper(job, sites)
    if not is_secure(job):
        return
    algorithm = algorithm_of(job.federation)
    off = 'or set [privacy] secure_aggregation = "none"'
    if algorithm.uniform or algorithm.sent:
        raise _clash(
            f'algorithm = "{job.federation.algorithm}": a site that drops out on the way cannot know whether its '
            "control variate is in the sum",
            f"take fedavg, fedprox, fedavgm, fedadam or fedyogi, {off}",
        )
    if job.federation.robust is not None:
        raise _clash("[federation.robust]: a rule must see the updates one by one", f"leave the rule out, {off}")
    if job.privacy.is_noisy and job.privacy.distributed is None:
        hint = f"let sites add the noise in shares, by [privacy.distributed], {off}"
        raise _clash("noise that is in every single update, or is added where updates are seen", hint)
    if job.evaluation.cross:
        raise _clash("[evaluation] cross = true: it shows the models of single sites", f"set cross = false, {off}")
    if job.federation.min_sites < LEAST_SITES:
        raise _clash(
            f"[federation] min_sites = {job.federation.min_sites}: it takes two others to hide one",
            f"set min_sites = {LEAST_SITES} or more, {off}",
        )


def _require_helper(job: JobSpec, sites: Iterable[str]) -> None:
    mode, helper = job.privacy.secure_aggregation, job.privacy.helper
    if (mode == "two-server") == (helper is None):
        hint = 'set both, secure_aggregation = "two-server" and helper = "SITE", or neither'
        said = "no helper" if helper is None else f"helper = {helper!r}"
        raise SpecError(f"[privacy] secure_aggregation = {mode!r} and {said}", hint=hint)
    if helper in {*job.federation.sites, *sites}:
        hint = "let a site help that holds none of the job's rows, and that somebody else runs than control"
        raise SpecError(
            f"[privacy] helper = {helper!r} is one of the run's sites: it would know its own masks", hint=hint
        )


def require_simulated(job: JobSpec) -> None:
    """Refuse a simulated population, whose clients' updates are summed without the protocol.

    Raises:
        SpecError: with secure aggregation.
    """
    if not is_secure(job) or job.simulation is None:
        return
    mode = "" if job.simulation.time is None else str(type(job.simulation.time).__struct_config__.tag)
    what = f'[simulation.time] mode = "{mode}"' if mode else "[simulation], a population of virtual clients"
    why = "an asynchronous server sees each update by itself" if mode == "fedbuff" else "it is computed in one process"
    hint = 'simulate the population with secure_aggregation = "none"; its sums are the same but for rounding'
    raise _clash(f"{what}: {why}", hint)


def require_compressed(job: JobSpec, sites: Collection[str] = ()) -> None:
    """Refuse what does not go together with compressed updates; `sites` are those there are, where they are known.

    Raises:
        SpecError: which of the job's values, and what to change.
        UnknownNameError: [federation.compression.sites] names none of them.
    """
    spec = job.federation.compression
    if spec is None:
        return
    strangers = set(spec.sites) - set(sites)
    if sites and strangers:
        raise UnknownNameError.of("site in [federation.compression.sites]:", min(strangers), sites)
    codec_of(spec, "")  # kind = "auto"
    off = "or leave [federation.compression] out"
    if is_secure(job):
        raise SpecError(
            "[federation.compression] does not go with secure aggregation: masked words take 32 bits, whatever is in "
            "them, and what each site chooses to send cannot be added unseen",
            hint=f'set [privacy] secure_aggregation = "none", {off}',
        )
    if algorithm_of(job.federation).uniform:
        raise SpecError(
            f'[federation.compression] does not go with algorithm = "{job.federation.algorithm}": the control variate '
            "of a site must be what control has counted of it",
            hint=f"take fedavg, fedprox, fedavgm, fedadam or fedyogi, {off}",
        )
    kinds = {spec.kind, *spec.sites.values()}
    if job.privacy.central is not None and (lossy := kinds & {"top-k", "low-rank"}):
        raise SpecError(
            f'kind = "{min(lossy)}" in [federation.compression] does not go with [privacy.central]: a site keeps what '
            "it did not send for later rounds, and no accountant here counts that",
            hint=f'take "int8" or "int4", {off}',
        )


def _clash(what: str, hint: str) -> SpecError:
    return SpecError(f"secure aggregation does not go with {what}", hint=hint)
