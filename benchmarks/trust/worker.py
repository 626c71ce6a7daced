"""A worker's start, with the walls this machine has and with none: CPU seconds of its processes to its first answer."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from archipel.data.bundle import pack_bundle
from archipel.data.stores.spool import Spool
from archipel.site.sandbox import Guard, Sandbox, survey
from archipel.site.worker.process import Post, WorkerProcess
from archipel.spec import RoundTask
from archipel.spec.job import job_from
from rounds.measure import Tree
from rounds.ours import JOB
from trust.figure import Figure


def starts() -> list[Figure]:
    """Start a worker of each kind, let it check its data, and end it."""
    kinds = {"all walls": Sandbox(), "no sandbox": Sandbox(require="none")}
    return [Figure(f"start of a worker: {name}", _start(sandbox), "CPU-s") for name, sandbox in kinds.items()]


def _start(sandbox: Sandbox) -> float:
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as name:
        folder = Path(name)
        spool = Spool(folder / "site/spool")
        rows = folder / "rows.csv"
        rows.write_text("x\n1\n", encoding="utf-8")
        guard = Guard(sandbox, survey())
        post = Post(site="a", folder=folder / "site", spool=spool, guard=guard, data={"noop": rows})
        document = {
            "name": "noop",
            "task": {"code": "task.py:Noop", "options": {"width": 4}},
            "data": {"dataset": "noop"},
        }
        job = job_from(document)
        bundle = spool.put(pack_bundle(JOB, job.task.include))
        task = RoundTask(run="run-1", round=0, site="a", kind="check", job=job, bundle=bundle)
        return asyncio.run(_first_answer(WorkerProcess(post), task))


async def _first_answer(worker: WorkerProcess, task: RoundTask) -> float:
    """Counted before the end: what a killed bubblewrap leaves is nobody's child here."""
    tree = Tree()
    before = tree.cpu_seconds()
    await worker.execute(task, {}, lambda _: None)
    spent = tree.cpu_seconds() - before
    await worker.close()
    return spent
