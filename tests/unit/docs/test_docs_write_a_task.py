"""The tasks of "How do I write a task?" train as they are written there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from archipel.data.site_data import SiteData
from archipel.spec.job import job_from
from archipel.tasks.conformance import plan
from archipel.tasks.load import gather_statistics, load_task, open_adapter

PAGE = Path(__file__).parents[3] / "docs/howto/write-a-task.md"


@pytest.mark.parametrize("framework", ["numpy", "jax"])
def test_the_task_of_the_page_trains(framework: str, tmp_path: Path) -> None:
    pytest.importorskip(framework)
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    [shown] = [block for block in code if f"archipel.tasks.{framework} import" in block]
    assert len([line for line in shown.splitlines() if line.strip()]) <= 30
    (tmp_path / "task.py").write_text(shown, encoding="utf-8")
    rng = np.random.default_rng(0)
    kinds = rng.choice(["auk", "tern"], 40)
    weight, wing = rng.normal(size=(2, 40)) + (kinds == "tern") * 3
    columns = {"weight": weight * 100 + 700, "wing": wing * 10 + 200, "kind": kinds}
    data = SiteData(site="here", path=tmp_path, columns=columns, row_ids=np.arange(40))
    job = job_from(
        {"name": "b", "task": {"code": "task.py:Birds", "framework": framework}, "data": {"dataset": "birds"}}
    )
    task = load_task(tmp_path, job.task.code, {})
    adapter = open_adapter(job, task, data, gather_statistics(task, data))
    trained = adapter.train(adapter.initial(0), plan(epochs=1), lambda _: None)
    assert trained.examples == 30
    assert trained.delta.any()
