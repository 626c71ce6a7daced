"""The pooled reference: one model from all islands' rows in one place, as no one may have it in real life.

Same task, contract, split and budget as the federation, taken from the job; the rows come from the public package,
never from a site. It is what the federated model is measured against.

    python examples/islands/reference.py          # prints the scores as JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from archipel.data.contract import check_contract
from archipel.data.readers.csv_table import Table
from archipel.data.site_data import SiteData
from archipel.simulation.pooled import pooled_scores
from archipel.spec import JobSpec, read_job
from archipel.tasks.load import load_object

FOLDER = Path(__file__).resolve().parent


def reference(job: JobSpec, data: Path | None) -> dict[str, Any]:
    """Return the pooled model's figures on everyone's test rows and on each island's."""
    return pooled_scores(job, FOLDER, read_sites(job, data))


def read_sites(job: JobSpec, data: Path | None) -> dict[str, SiteData]:
    """Return island → its rows after the contract's check, as the site itself would read them."""
    sites = {}
    for name, rows in load_object(FOLDER, "prepare.py", "read_islands")(data).items():
        table = Table(rows=len(rows), columns={column: [row[column] for row in rows] for column in rows[0]})
        checked = check_contract(table, job.data.contract, job.data.dataset)
        sites[name] = SiteData(site=name, path=FOLDER, columns=checked.columns, row_ids=checked.row_ids)
    return sites


if __name__ == "__main__":
    json.dump(reference(read_job(FOLDER / "job.toml"), None), sys.stdout, indent=2)
