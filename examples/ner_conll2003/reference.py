"""The pooled reference: one tagger from all bureaux' articles in one place, as none may have them in real life.

Same task and as many epochs as the federation; it costs as much as the whole run and so is asked for by the preset
"compare" only.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from archipel.data.site_data import SiteData
from archipel.simulation.pooled import train_pooled
from archipel.spec import read_job
from archipel.tasks.load import load_task, open_adapter
from archipel.tasks.metrics import summarise

from .bureaux import DatelineRule
from .conll import read, write
from .prepare import OWN_BUREAU, find_files

FOLDER = Path(__file__).resolve().parent


def reference(data: Path | None, seed: int) -> dict[str, Any]:
    """Return the pooled tagger's figures on everyone's test articles and on each bureau's."""
    job = read_job(FOLDER / "job.toml")
    task = load_task(FOLDER, job.task.code, job.task.options)
    parts = {part: read(path) for part, path in find_files(data).items()}
    rule = DatelineRule.from_training(parts["train"], OWN_BUREAU)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        pooled = folder_of(root, "pooled")
        for part, documents in parts.items():
            write(pooled / f"{part}.txt", documents)
        adapter = open_adapter(job, task, site_at(pooled), {})
        weights = train_pooled(job, adapter, seed)
        figures = summarise(adapter.evaluate(weights))
        sites = {}
        for bureau, documents in rule.split(parts["test"]).items():
            folder = folder_of(root, bureau)
            for part in ("train", "valid", "test"):
                write(folder / f"{part}.txt", documents)
            own = summarise(open_adapter(job, task, site_at(folder), {}).evaluate(weights))
            sites[bureau] = {"own": own, "everyone": figures}
    return {"everyone": figures, "own": figures, "sites": sites}


def folder_of(root: Path, name: str) -> Path:
    """Make a folder under `root`."""
    folder = root / name
    folder.mkdir()
    return folder


def site_at(folder: Path) -> SiteData:
    """Give a folder as a site's data set."""
    return SiteData(site=folder.name, path=folder, columns={}, row_ids=np.empty(0, np.int64))
