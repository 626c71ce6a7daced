"""The pooled reference: one model from all airlines' flights in one place, as no one may have it in real life.

Same task, contract, split and budget as the federation, taken from the job; the rows come from the public package,
never from a site.

    python examples/flights/reference.py          # prints the scores as JSON
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
    """Return the pooled model's figures on everyone's test rows and on each airline's."""
    return pooled_scores(job, FOLDER, read_sites(job, data))


def read_sites(job: JobSpec, data: Path | None) -> dict[str, SiteData]:
    """Return airline → its rows after the contract's check, as the site itself would read them."""
    header = load_object(FOLDER, "prepare.py", "HEADER")
    sites = {}
    for name, rows in load_object(FOLDER, "prepare.py", "read_airlines")(data).items():
        texts = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
        checked = check_contract(Table(rows=len(rows), columns=texts), job.data.contract, job.data.dataset)
        sites[name] = SiteData(site=name, path=FOLDER, columns=checked.columns, row_ids=checked.row_ids)
    return sites


if __name__ == "__main__":
    json.dump(reference(read_job(FOLDER / "job.toml"), None), sys.stdout, indent=2)
