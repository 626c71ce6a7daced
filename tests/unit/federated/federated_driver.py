"""A driver for tests: sites that answer at once, folds that are names, and a journal to rebuild a run from."""

from __future__ import annotations

from archipel.federated.coordinator import Coordinator
from archipel.federated.port import Ask, Fold, RoundFolded, SiteRefused, UpdateAccepted
from archipel.federated.stages import FOLDED
from archipel.spec import Blob, JobSpec, Part, Refusal, Update, digest_of
from archipel.spec.job import DataSpec, DeploymentSpec, EvaluationSpec, FederationSpec, TaskSpec

PARTS = {
    "check": (),
    "statistics": ("sums",),
    "initialise": ("model",),
    "train": ("delta",),
    "alone": ("model",),
    "personalise": ("model",),
    "evaluate": ("sums",),
    "export": ("onnx",),
}
SITES = ("ann", "bob", "cid", "dot", "eve")


def blob(text):
    return Blob(digest=digest_of(text.encode()), size_bytes=len(text))


def job(federation=None, evaluation=None, serve="none"):
    return JobSpec(
        name="birds",
        task=TaskSpec(code="task.py:Birds"),
        data=DataSpec(dataset="birds"),
        federation=FederationSpec(**{"rounds": 2} | (federation or {})),
        evaluation=EvaluationSpec(**(evaluation or {})),
        deployment=DeploymentSpec(serve=serve),
    )


def coordinator(spec=None, sites=SITES, **more):
    return Coordinator("run-1", spec or job(), blob("bundle"), sites, **more)


def update_for(task, *, statistics=False, manifest="model", parts=None, weight=1.0, shared=None):
    """Answer a round task as an honest site would."""
    names = PARTS[task.kind] if parts is None else parts
    if parts is None and task.variant.get("scaffold"):
        names = ("delta", "control")
    share = (task.kind in FOLDED or task.share) if shared is None else shared
    # First weights come from the seed: the same bytes at every site.
    whose = manifest if task.kind == "initialise" else task.site
    made = {
        name: Part(
            blob=blob(f"{task.kind} {task.step} {name} of {whose}"), manifest=blob(manifest).digest, shared=share
        )
        for name in names
    }
    metrics = {"loss_sum": 3.0, "loss_examples": 2.0} if task.kind == "train" else {}
    if task.kind == "check" and statistics:
        metrics = {"statistics": 1.0}
    return Update(
        run=task.run,
        round=task.round,
        site=task.site,
        kind=task.kind,
        parts=made,
        weight=weight,
        metrics=metrics,
    )


def folded_for(order):
    """Carry out a fold in name only: the result's digest tells which updates are in it."""
    inside = ",".join(part.blob.digest for update in order.updates for part in update.parts.values())
    result = blob(f"{order.kind} {order.round} {order.model} {inside}")
    if order.kind == "train":
        return RoundFolded(round=order.round, model=result, state=blob(f"state {order.round}"))
    if order.kind == "initialise":
        return RoundFolded(round=order.round, model=order.updates[0].parts["model"].blob)
    return RoundFolded(round=order.round, model=None, sums=result)


def refusal_for(task, error="DataError", message="no such data", hint="join again"):
    return Refusal(run=task.run, round=task.round, site=task.site, error=error, message=message, hint=hint)


def refused(task, **more):
    return SiteRefused(refusal=refusal_for(task, **more))


def accepted(task, **more):
    return UpdateAccepted(update=update_for(task, **more))


def asks(instructions):
    return [item.task for item in instructions if isinstance(item, Ask)]


def drive(machine, *, until=None, statistics=False, answer=None):
    """Answer everything until nothing is left, or `until(instruction)` holds for the next one; return what remains."""
    todo = list(machine.outstanding())
    while todo:
        if until is not None and until(todo[0]):
            return todo
        item = todo.pop(0)
        match item:
            case Ask(task=task):
                event = answer(task) if answer is not None else accepted(task, statistics=statistics)
                todo += machine.handle(event)
            case Fold():
                todo += machine.handle(folded_for(item))
            case _:
                return [item]
    return []


def drive_to(machine, kind, step=0, **more):
    """Answer everything before the round of this kind and step; return its tasks, one a site."""
    drive(
        machine, until=lambda item: isinstance(item, Ask) and (item.task.kind, item.task.step) == (kind, step), **more
    )
    return asks(machine.outstanding())
