"""Rules on what is asked: a task, held against the job it names and against what its run was begun with.

Control proposes a job once; these rules are why it cannot do another thing later. Each takes the policy, the task and
what the site remembers, and returns why the task is refused, or None. The first refusal counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from archipel.site.approvals import Standing, is_work, subject_of
from archipel.site.policy.verdict import Refused
from archipel.spec import JobSpec, Kind, RoundTask
from archipel.spec.policy import SitePolicy
from archipel.spec.quantities import Size

Rule = Callable[[SitePolicy, RoundTask, Standing], Refused | None]
_ASK = "ask control's operator why it asks"
_IN_JOB: Mapping[Kind, Callable[[JobSpec], bool]] = {
    "check": lambda _: True,
    "statistics": lambda job: job.privacy.statistics,
    "initialise": lambda _: True,
    "train": lambda _: True,
    "alone": lambda job: job.evaluation.alone,
    "personalise": lambda job: job.evaluation.personalise_epochs > 0,
    "evaluate": lambda _: True,
    "export": lambda job: job.deployment.serve != "none",
}
"""Kind of work → does a job have it?"""


def judge_promise(policy: SitePolicy, task: RoundTask, standing: Standing) -> Refused | None:
    """Return why a task is not one that its job has; None: it is."""
    return next(filter(None, (rule(policy, task, standing) for rule in RULES)), None)


def _pinned(_policy: SitePolicy, task: RoundTask, standing: Standing) -> Refused | None:
    pin = standing.pin
    if pin is None or (pin.job, pin.bundle) == (task.job.digest, task.bundle.digest):
        return None
    what = "job" if pin.job != task.job.digest else "bundle"
    message = f"run {task.run} was begun with another {what} than it brings now"
    return Refused(rule="pinned", message=message, hint="begin a new run for it")


def _in_job(_policy: SitePolicy, task: RoundTask, _standing: Standing) -> Refused | None:
    if not _IN_JOB[task.kind](task.job):
        return Refused(rule="pinned", message=f"the job has no {task.kind}", hint=_ASK)
    every, rounds = task.job.evaluation.every, task.job.federation.rounds
    steps = {
        "train": range(1, rounds + 1),
        "evaluate": range(0, rounds + 1, every) if every else range(1),
    }.get(task.kind, range(1))
    if task.step not in steps:
        message = f"the job has {rounds} training rounds, and {task.kind} of round {task.step} is none of it"
        return Refused(rule="pinned", message=message, hint=_ASK)
    return None


def _shared(_policy: SitePolicy, task: RoundTask, standing: Standing) -> Refused | None:
    """Let no model leave, or be read, that the job keeps at the site."""
    cross = task.job.evaluation.cross
    if task.kind in {"alone", "personalise"} and task.share and not cross:
        message = f"the model of {task.kind} stays at its site, and control asks for it"
        return Refused(rule="pinned", message=message, hint=_ASK)
    if standing.keeps_model and (task.kind != "export" or task.share):
        message = f"{task.kind} is asked of a model that stays at its site"
        return Refused(rule="pinned", message=message, hint=_ASK)
    own = {"federated", f"alone/{task.site}", f"personalised/{task.site}"}
    strange = [model.name for model in task.models if model.name not in own]
    if strange and not cross:
        message = f"the job shows no site the models of others, and control asks to score {strange[0]!r}"
        return Refused(rule="pinned", message=message, hint=_ASK)
    return None


def _once(_policy: SitePolicy, task: RoundTask, standing: Standing) -> Refused | None:
    """Let each stage of a run be asked with one model, however often: another one is another round."""
    if standing.begun is None or not is_work(task) or standing.begun == subject_of(task):
        return None
    message = f"{task.kind} of round {task.step} was asked with other inputs before; a run has each round once"
    return Refused(rule="pinned", message=message, hint="begin a new run")


def _sizes(policy: SitePolicy, task: RoundTask, _standing: Standing) -> Refused | None:
    limits, models = policy.limits, [task.model, *(item.blob for item in task.models)]
    brought = Size(float(sum(blob.size_bytes for blob in task.blobs().values())))
    largest = Size(float(max((blob.size_bytes for blob in models if blob is not None), default=0)))
    for rule, most, size in (
        ("model", limits.model, largest),
        ("network", limits.network, brought),
        ("disk", limits.disk, brought),
    ):
        if most is not None and most < size:
            message = f"a {task.kind} task brings {size}, and here it may bring {most}"
            return Refused(rule=f"limits.{rule}", message=message, hint="use a smaller model")
    return None


RULES: tuple[Rule, ...] = (_pinned, _in_job, _shared, _once, _sizes)
