"""A real agent in a real process does a whole run for a small control plane, over mutual TLS."""

from __future__ import annotations

from pathlib import Path

import msgspec

from archipel.spec import Blob, NamedModel, RoundTask, Update, pack, unpack
from archipel.spec.job import JobSpec
from unit.site.site_fakes import SITE, AgentProcess, FakeControl, make_job, put_bundle, write_birds


async def updated(control: FakeControl, task: RoundTask) -> Update:
    control.assign(task)
    answer = await control.answered(task)
    assert isinstance(answer, Update), answer
    return answer


def moved(control: FakeControl, model: Blob, delta: Blob) -> Blob:
    before = unpack(control.spool.require(model.digest).read_bytes())
    change = unpack(control.spool.require(delta.digest).read_bytes())
    return control.spool.put(pack({name: before[name] + change[name] for name in before}))


async def drive(control: FakeControl, job: JobSpec, bundle: Blob, run: str = "run-1") -> dict[str, Update]:
    """Do all stages of a run with one site; return the updates by stage."""
    blank = RoundTask(run=run, round=0, site=SITE, kind="check", job=job, bundle=bundle)
    done: dict[str, Update] = {}

    async def stage(name: str, kind: str, **fields: object) -> Update:
        task = msgspec.structs.replace(blank, round=len(done), kind=kind, **fields)
        done[name] = await updated(control, task)
        return done[name]

    await stage("check", "check")
    statistics = (await stage("statistics", "statistics")).parts["sums"].blob
    initial = (await stage("initialise", "initialise", statistics=statistics, share=True)).parts["model"].blob
    model = initial
    for step in range(1, job.federation.rounds + 1):
        update = await stage(f"train-{step}", "train", step=step, model=model, statistics=statistics)
        model = moved(control, model, update.parts["delta"].blob)
    alone = await stage("alone", "alone", model=initial, statistics=statistics)
    own = await stage("personalise", "personalise", model=model, statistics=statistics)
    models = tuple(
        NamedModel(name=name, blob=blob)
        for name, blob in (
            ("federated", model),
            (f"alone/{SITE}", alone.parts["model"].blob),
            (f"personalised/{SITE}", own.parts["model"].blob),
        )
    )
    await stage("evaluate", "evaluate", models=models, statistics=statistics)
    await stage("export", "export", model=model, statistics=statistics, share=True)
    await stage("export-own", "export", model=own.parts["model"].blob, statistics=statistics)
    return done


async def test_an_agent_does_every_stage_of_a_run(tmp_path: Path) -> None:
    data = write_birds(tmp_path / "data")
    async with FakeControl(tmp_path / "control") as control:
        bundle = put_bundle(control.spool, tmp_path / "job")
        place = control.enrol(tmp_path / "site", {"birds": data})
        async with AgentProcess(place.path) as agent:
            done = await drive(control, make_job(), bundle)
            assert await agent.end() == 0
    assert done["check"].dataset is not None
    assert done["check"].metrics == {"examples": 40.0, "statistics": 1.0}
    assert done["train-1"].weight == 30
    sums = unpack(control.spool.require(done["evaluate"].parts["sums"].blob.digest).read_bytes())
    assert sums["federated|classification.correct"] == 10
    assert {name.partition("|")[0] for name in sums} == {"federated", f"alone/{SITE}", f"personalised/{SITE}"}
    assert not control.spool.has(done["personalise"].parts["model"].blob.digest)
    assert not control.spool.has(done["export-own"].parts["onnx"].blob.digest)
