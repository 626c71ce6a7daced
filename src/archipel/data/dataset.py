"""Open a site's data set: read it, hold it against the contract, describe it. The one way in for the other rooms.

    data, manifest = open_dataset("torgersen", "birds", Path("birds.csv"), job.data.contract)
    data.columns["bill_length_mm"]     # what the task reads, at this site only
    manifest.rows                      # what may leave the site

A contract without columns means that the task reads the files itself; a row is then a file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from archipel.data.contract import check_contract, require_rows
from archipel.data.manifest import digest_files, list_files
from archipel.data.readers.csv_table import read_header, read_table
from archipel.data.site_data import SiteData
from archipel.spec import Contract, DataError, DatasetManifest


def open_dataset(site: str, dataset: str, path: Path, contract: Contract) -> tuple[SiteData, DatasetManifest]:
    """Return the data of `dataset` at `path` for a task to read, and the manifest that says what it is.

    Raises:
        DataError: nothing there, unreadable, or it breaks the contract; the message never holds a cell's content.
    """
    if not path.exists():
        raise DataError(
            f"data set {dataset!r} of site {site!r} is not where it was registered ({path.name!r})",
            hint="put it back, or register the data set again",
        )
    files = list_files(path)
    digest, size_bytes = digest_files(files)
    if not contract.columns:
        require_rows(len(files), contract, dataset)
        data = SiteData(site=site, path=path, columns={}, row_ids=np.arange(len(files), dtype=np.int64))
        return data, DatasetManifest(dataset=dataset, digest=digest, size_bytes=size_bytes, rows=len(files))
    table = read_table(path, contract.columns)
    checked = check_contract(table, contract, dataset, read_header(path))
    manifest = DatasetManifest(
        dataset=dataset,
        digest=digest,
        size_bytes=size_bytes,
        rows=len(checked.row_ids),
        quarantined=checked.quarantined,
        columns={name: column.kind for name, column in contract.columns.items() if name in table.columns},
        labels=checked.labels,
    )
    return SiteData(site=site, path=path, columns=checked.columns, row_ids=checked.row_ids), manifest
