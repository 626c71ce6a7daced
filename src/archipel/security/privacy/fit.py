"""What a job with differential privacy may not ask for as well: things that would leave sites without noise."""

from __future__ import annotations

from archipel.spec import JobSpec, SpecError

_NOISELESS = "would leave sites without noise, and no epsilon would be true"


def require_private_fit(job: JobSpec, *, virtual: bool = False) -> None:
    """Refuse a job whose [privacy] would promise what it does not keep.

    `virtual`: its units are the clients of a simulation, not the sites of a live run.

    Raises:
        SpecError: names the key and what to set instead.
    """
    privacy, evaluation = job.privacy, job.evaluation
    if not privacy.is_noisy:
        return
    names = ("central", "distributed", "examples", "local")
    first, *more = [f"[privacy.{name}]" for name in names if getattr(privacy, name) is not None]
    if more:
        raise SpecError(f"{first} and {more[0]} in one job", hint="keep one of them: their noises add")
    if privacy.distributed is not None and privacy.secure_aggregation == "none":
        hint = 'set secure_aggregation in [privacy], such as to "secagg", or take [privacy.local]'
        raise SpecError(
            "[privacy.distributed] hides a site in a sum, and without one its share is too little", hint=hint
        )
    if privacy.statistics:
        hint = "set statistics = false in [privacy], and give the task constants where it asks for sums"
        raise SpecError(f"sums over rows {_NOISELESS}", hint=hint)
    if evaluation.alone or evaluation.personalise_epochs:
        hint = "set alone = false and personalise_epochs = 0 in [evaluation]"
        raise SpecError(f"scores of models that sites train without noise {_NOISELESS}", hint=hint)
    if privacy.examples is None:
        _require_update_fit(job, first)
        _require_noise_fit(job, virtual=virtual)
    elif job.task.framework != "torch":
        hint = 'set framework = "torch" in [task], or take [privacy.local]'
        raise SpecError(f"[privacy.examples] needs gradients row by row, which {job.task.framework} has not", hint=hint)


def _require_update_fit(job: JobSpec, table: str) -> None:
    if job.federation.weighting != "uniform":
        hint = 'set weighting = "uniform" in [federation]'
        message = f"{table} with weights by examples: one large site would count for more than the clip norm"
        raise SpecError(message, hint=hint)
    if job.federation.robust is not None and job.privacy.central is not None:
        hint = (
            "keep one of them: what a robust rule makes of clipped updates may move further by one site than their sum"
        )
        raise SpecError("[federation.robust] and [privacy.central] in one job", hint=hint)
    if job.federation.algorithm == "scaffold":
        hint = "take another algorithm"
        raise SpecError(f"scaffold's control variates {_NOISELESS}", hint=hint)


def _require_noise_fit(job: JobSpec, *, virtual: bool) -> None:
    central = job.privacy.central
    if central is None or central.noise == "independent":
        return
    if not virtual:
        message = 'noise = "correlated" pays where clients rest between their turns, and a site may be in every round'
        raise SpecError(message, hint="leave `noise` in [privacy.central] out")
    if job.simulation is None or job.simulation.sampling != "turns":
        hint = 'set sampling = "turns" in [simulation], or leave `noise` in [privacy.central] out'
        raise SpecError('noise = "correlated" counts on how long a client rests between its turns', hint=hint)
    if central.adaptive is not None:
        hint = "leave [privacy.central.adaptive] out: with a clip norm that moves, rounds' noises would not match"
        raise SpecError('noise = "correlated" and [privacy.central.adaptive] in one job', hint=hint)
