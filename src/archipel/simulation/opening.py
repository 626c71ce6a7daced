"""Opens the one data set of a population, and the job's task over it: in the command, and again in each process."""

from __future__ import annotations

from pathlib import Path

from archipel.data.dataset import open_dataset
from archipel.spec import JobSpec
from archipel.tasks.load import gather_statistics, load_task, open_adapter
from archipel.tasks.port import Adapter
from archipel.tasks.threads import settle_threads

HERE = "simulation"
"""The site that holds the data set, in messages."""


def open_here(job: JobSpec, folder: Path, data: Path) -> tuple[Adapter, str]:
    """Return the adapter of the job's task, whose code is in `folder`, over the rows at `data`, and their digest.

    Raises:
        DataError: there are no such rows, or they break the job's contract.
        TaskError: the task cannot be loaded.
        MissingExtraError: its framework is not installed.
    """
    settle_threads(job.task.framework)
    site_data, manifest = open_dataset(HERE, job.data.dataset, data, job.data.contract)
    task = load_task(folder, job.task.code, job.task.options)
    return open_adapter(job, task, site_data, gather_statistics(task, site_data)), manifest.digest
