"""The pooled reference: one model from all islands' rows in one place, as no one may have it in real life.

Same task, contract, split and budget as the federation, taken from job.toml; the rows come from the public package,
never from a site. It is what the federated model is measured against.

    python examples/islands/reference.py          # prints the scores as JSON
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archipel.data.contract import check_contract
from archipel.data.readers.csv_table import Table
from archipel.data.site_data import SiteData
from archipel.site.worker.schedule import learning_rate, stream
from archipel.spec import JobSpec, read_job
from archipel.tasks.load import gather_statistics, load_object, load_task, open_adapter
from archipel.tasks.metrics import summarise
from archipel.tasks.port import Adapter, LocalPlan, Weights
from archipel.tasks.threads import settle_threads

FOLDER = Path(__file__).resolve().parent


def reference(data: Path | None, seed: int) -> dict[str, Any]:
    """Return the pooled model's figures on everyone's test rows and on each island's."""
    job = read_job(FOLDER / "job.toml")
    return score(job, FOLDER, read_sites(job, data), seed)


def score(job: JobSpec, folder: Path, sites: Mapping[str, SiteData], seed: int) -> dict[str, Any]:
    """Train the task in `folder` on all sites' rows; return its figures on them together and apart."""
    settle_threads(job.task.framework)
    task = load_task(folder, job.task.code, job.task.options)
    everyone = pool(sites)
    statistics = gather_statistics(task, everyone)
    adapter = open_adapter(job, task, everyone, statistics)
    weights = train(job, adapter, seed)
    figures = summarise(adapter.evaluate(weights))
    own = {name: summarise(open_adapter(job, task, data, statistics).evaluate(weights)) for name, data in sites.items()}
    by_site = {name: {"everyone": figures, "own": found} for name, found in own.items()}
    return {"everyone": figures, "own": figures, "sites": by_site}


def read_sites(job: JobSpec, data: Path | None) -> dict[str, SiteData]:
    """Return island → its rows after the contract's check, as the site itself would read them."""
    sites = {}
    for name, rows in load_object(FOLDER, "prepare.py", "read_islands")(data).items():
        table = Table(rows=len(rows), columns={column: [row[column] for row in rows] for column in rows[0]})
        checked = check_contract(table, job.data.contract, job.data.dataset)
        sites[name] = SiteData(site=name, path=FOLDER, columns=checked.columns, row_ids=checked.row_ids)
    return sites


def pool(sites: Mapping[str, SiteData]) -> SiteData:
    """Lay all rows end to end; each keeps its row id, so that the same rows are held out as at its site."""
    parts = list(sites.values())
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    return SiteData(site="pooled", path=FOLDER, columns=columns, row_ids=np.concatenate([p.row_ids for p in parts]))


def train(job: JobSpec, adapter: Adapter, seed: int) -> Weights:
    """Train for as many epochs as the federation, each round at that round's learning rate."""
    federation = job.federation
    weights = adapter.initial(seed)
    for step in range(1, federation.rounds + 1):
        plan = LocalPlan(
            local=federation.local,
            learning_rate=learning_rate(federation.local, step, federation.rounds),
            epochs=federation.local.epochs,
            seed=stream(seed, step, "pooled"),
        )
        trained = adapter.train(weights, plan, lambda _share: None)
        weights = Weights(manifest=weights.manifest, vector=weights.vector + trained.delta)
    return weights


if __name__ == "__main__":
    json.dump(reference(None, read_job(FOLDER / "job.toml").federation.seed), sys.stdout, indent=2)
