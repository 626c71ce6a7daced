"""The pooled reference: one tagger from all bureaux' articles in one place, as none may have them in real life.

Same task and as many epochs as the federation; it costs as much as the whole run and so is asked for by the preset
"compare" only. Articles are dealt out as the job says, so that each bureau is scored on its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from archipel.data.site_data import SiteData
from archipel.federated.sums import add_sums
from archipel.simulation.pooled import train_pooled
from archipel.spec import JobSpec
from archipel.tasks.load import load_object, load_task, open_adapter
from archipel.tasks.metrics import summarise
from archipel.tasks.threads import settle_threads

from .conll import read, write

FOLDER = Path(__file__).resolve().parent
PARTS = ("train.txt", "valid.txt", "test.txt")
TRAINED_ON = "train.txt"


def reference(job: JobSpec, data: Path | None) -> dict[str, Any]:
    """Return the pooled tagger's figures on everyone's test articles and on each bureau's."""
    settle_threads(job.task.framework)
    task = load_task(FOLDER, job.task.code, job.task.options)
    file, _, name = str(job.data.prepare).partition(":")
    with tempfile.TemporaryDirectory() as place:
        bureaux, pooled = Path(place) / "bureaux", Path(place) / "pooled"
        load_object(FOLDER, file, name)(bureaux, data)
        folders = sorted(bureaux.iterdir())
        pooled.mkdir()
        # The encoder reads what a folder holds: each article stands in one of them only.
        for part in PARTS:
            write(pooled / part, [])
        write(pooled / TRAINED_ON, [document for folder in folders for document in read(folder / TRAINED_ON)])
        weights = train_pooled(job, open_adapter(job, task, site_at(pooled), {}))
        sums = {}
        for folder in folders:
            write(folder / TRAINED_ON, [])
            sums[folder.name] = open_adapter(job, task, site_at(folder), {}).evaluate(weights)
    figures = summarise(add_sums(sums.items()))
    sites = {name: {"own": summarise(own), "everyone": figures} for name, own in sums.items()}
    return {"everyone": figures, "own": figures, "sites": sites}


def site_at(folder: Path) -> SiteData:
    """Give a folder as a site's data set."""
    return SiteData(site=folder.name, path=folder, columns={}, row_ids=np.empty(0, np.int64))
