"""The pooled reference: one model from all rows in one place, which in real life no one may have.

A report measures the federation against it. It is computed by a process of its own (an example's reference.py), from
public data, by the same task, contract, split and budget of epochs as the federation; never by a site or by control.

    scores = pooled_scores(job, folder, {"torgersen": SiteData(…), …})
    scores["everyone"]["accuracy"]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archipel.data.site_data import SiteData
from archipel.site.worker.schedule import learning_rate, stream
from archipel.spec import JobSpec
from archipel.tasks.load import gather_statistics, load_task, open_adapter
from archipel.tasks.metrics import summarise
from archipel.tasks.port import Adapter, LocalPlan, Weights
from archipel.tasks.threads import settle_threads

POOLED = "pooled"


def pooled_scores(job: JobSpec, folder: Path, sites: Mapping[str, SiteData]) -> dict[str, Any]:
    """Train the task in `folder` on all sites' rows; return its figures on them together and apart.

    Returns:
        "everyone" and "own" (the same model, so the same figures), and "sites": name → its own rows' figures.
    """
    settle_threads(job.task.framework)
    task = load_task(folder, job.task.code, job.task.options)
    everyone = pool(sites)
    statistics = gather_statistics(task, everyone)
    adapter = open_adapter(job, task, everyone, statistics)
    weights = train_pooled(job, adapter)
    figures = summarise(adapter.evaluate(weights))
    own = {name: summarise(open_adapter(job, task, data, statistics).evaluate(weights)) for name, data in sites.items()}
    by_site = {name: {"everyone": figures, "own": found} for name, found in own.items()}
    return {"everyone": figures, "own": figures, "sites": by_site}


def pool(sites: Mapping[str, SiteData]) -> SiteData:
    """Lay all rows end to end; each keeps its row id, so that the same rows are held out as at its site."""
    parts = list(sites.values())
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    row_ids = np.concatenate([part.row_ids for part in parts])
    return SiteData(site=POOLED, path=parts[0].path, columns=columns, row_ids=row_ids)


def train_pooled(job: JobSpec, adapter: Adapter) -> Weights:
    """Train for as many epochs as the federation, each round at that round's learning rate."""
    federation = job.federation
    weights = adapter.initial(federation.seed)
    for step in range(1, federation.rounds + 1):
        plan = LocalPlan(
            local=federation.local,
            learning_rate=learning_rate(federation.local, step, federation.rounds),
            epochs=federation.local.epochs,
            seed=stream(federation.seed, step, POOLED),
        )
        trained = adapter.train(weights, plan, lambda _share: None)
        weights = Weights(manifest=weights.manifest, vector=weights.vector + trained.delta)
    return weights
