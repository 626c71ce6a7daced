"""A whole run of one site, driven by hand: what the coordinator would ask, in its order."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from archipel.spec import Blob, Lineage, ModelVersion, NamedModel, RoundTask, Update, pack, unpack
from archipel.spec.job import JobSpec
from archipel.spec.wire import Serve
from unit.site.site_fakes import SITE, FakeControl


def flat(control: FakeControl, blob: Blob) -> np.ndarray:
    arrays = unpack(control.spool.require(blob.digest).read_bytes())
    return np.concatenate([array.ravel() for array in arrays.values()])


class Run:
    """One run; `updates` holds each stage's update by name."""

    def __init__(self, control: FakeControl, job: JobSpec, bundle: Blob, name: str = "run-1") -> None:
        self.control = control
        self.job = job
        self.updates: dict[str, Update] = {}
        self._blank = RoundTask(run=name, round=0, site=SITE, kind="check", job=job, bundle=bundle)

    def task(self, kind: str, **fields: Any) -> RoundTask:
        return msgspec.structs.replace(self._blank, round=len(self.updates), kind=kind, **fields)

    async def stage(self, name: str, kind: str, **fields: Any) -> Update:
        task = self.task(kind, **fields)
        self.control.assign(task)
        answer = await self.control.answered(task)
        assert isinstance(answer, Update), answer
        self.updates[name] = answer
        return answer

    async def train(self, step: int, model: Blob, statistics: Blob, state: Blob | None) -> tuple[Blob, Blob | None]:
        scaffold = self.job.federation.algorithm == "scaffold"
        more: dict[str, Any] = {"variant": {"scaffold": 1.0}} if scaffold else {}
        if state is not None:
            more["inputs"] = {"control": state}
        update = await self.stage(f"train-{step}", "train", step=step, model=model, statistics=statistics, **more)
        before = unpack(self.control.spool.require(model.digest).read_bytes())
        change = unpack(self.control.spool.require(update.parts["delta"].blob.digest).read_bytes())
        model = self.control.spool.put(pack({name: before[name] + change[name] for name in before}))
        if scaffold:
            added = flat(self.control, update.parts["control"].blob)
            total = added if state is None else flat(self.control, state) + added
            state = self.control.spool.put(pack({"control": total}))
        return model, state

    async def all_stages(self) -> dict[str, Update]:
        """Check, statistics, initialise, train …, alone, personalise, evaluate, export twice."""
        await self.stage("check", "check")
        statistics = (await self.stage("statistics", "statistics")).parts["sums"].blob
        known: dict[str, Any] = {"statistics": statistics}
        first = (await self.stage("initialise", "initialise", share=True, **known)).parts["model"].blob
        model, state = first, None
        for step in range(1, self.job.federation.rounds + 1):
            model, state = await self.train(step, model, statistics, state)
        alone = (await self.stage("alone", "alone", model=first, **known)).parts["model"].blob
        own = (await self.stage("personalise", "personalise", model=model, **known)).parts["model"].blob
        names = {"federated": model, f"alone/{SITE}": alone, f"personalised/{SITE}": own}
        models = tuple(NamedModel(name=name, blob=blob) for name, blob in names.items())
        await self.stage("evaluate", "evaluate", models=models, **known)
        await self.stage("export", "export", model=model, share=True, **known)
        await self.stage("export-own", "export", model=own, **known)
        return self.updates

    def serve(self, copy: str = "personalised", version: int = 1) -> Serve:
        """Return the word to serve this run's model."""
        lineage = Lineage(job=self.job.digest, bundle=self._blank.bundle.digest, datasets={}, participation=())
        onnx = self.updates["export"].parts["onnx"].blob
        weights = self.updates["initialise"].parts["model"].blob
        model = ModelVersion(
            name=self.job.name, version=version, run=self._blank.run, weights=weights, onnx=onnx, lineage=lineage
        )
        return Serve(model=model, copy=copy)


async def began(run: Run) -> dict[str, Any]:
    """Do the first stages; return what training needs."""
    statistics = (await run.stage("statistics", "statistics")).parts["sums"].blob
    model = (await run.stage("initialise", "initialise", statistics=statistics)).parts["model"].blob
    return {"statistics": statistics, "model": model}


def outcome(updates: dict[str, Update]) -> dict[str, Any]:
    """What must not depend on crashes: everything but wall time."""
    return {name: msgspec.structs.replace(update, seconds=0.0) for name, update in updates.items()}
