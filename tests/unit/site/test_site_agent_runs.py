"""A real agent in a real process does a whole run for a small control plane, over mutual TLS."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from archipel.data.stores.spool import Spool
from archipel.security.sealing import is_sealed
from archipel.spec import unpack
from archipel.spec.wire import Forget
from unit.site.site_fakes import SITE, AgentProcess, FakeControl, make_job, put_bundle, write_birds
from unit.site.site_runs import Run


@pytest.mark.parametrize(("algorithm", "key"), [("fedavg", ""), ("scaffold", "file:seal.key")])
async def test_an_agent_does_every_stage_of_a_run_and_serves_its_own_copy(
    tmp_path: Path, algorithm: str, key: str
) -> None:
    data = write_birds(tmp_path / "data")
    async with FakeControl(tmp_path / "control") as control:
        bundle = put_bundle(control.spool, tmp_path / "job")
        place = control.enrol(tmp_path / "site", {"birds": data})
        async with AgentProcess(place.path, ARCHIPEL_KEY=key) as agent:
            run = Run(control, make_job(federation={"algorithm": algorithm}), bundle)
            done = await run.all_stages()
            control.say(run.serve())
            await control.until(lambda: bool(control.beats and control.beats[-1].serving))
            [served] = control.beats[-1].serving
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"{served.url}/v2/models/birds/versions/1/ready")
            assert answer.json() == {"name": "birds", "ready": True}
            spool = Spool(place.spool)
            assert len(set(spool.digests())) > 1
            on_disk = [path.read_bytes() for path in place.spool.glob("??/*")]
            assert {is_sealed(blob) for blob in on_disk} == {bool(key)}
            control.say(Forget(run="run-1"))
            await control.until(lambda: set(spool.digests()) == {served.digest})
            assert await agent.end() == 0
    assert served.copy == "personalised"
    assert served.digest == done["export-own"].parts["onnx"].blob.digest
    assert done["check"].dataset is not None
    assert done["check"].metrics == {"examples": 40.0, "statistics": 1.0}
    assert done["train-1"].weight == 30
    sums = unpack(control.spool.require(done["evaluate"].parts["sums"].blob.digest).read_bytes())
    assert sums["federated|classification.correct"] == 10
    assert {name.partition("|")[0] for name in sums} == {"federated", f"alone/{SITE}", f"personalised/{SITE}"}
    assert not control.spool.has(done["personalise"].parts["model"].blob.digest)
    assert not control.spool.has(done["export-own"].parts["onnx"].blob.digest)
    assert "secret" not in agent.log.read_text()
