"""Plans: what a job would take, from what is known of the sites; nothing is started."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from archipel.control.services.jobs.past import seen_before, sizes_of
from archipel.control.services.sites.fleet import Fleet
from archipel.control.services.sites.inventories import Inventories
from archipel.control.store import models as rows
from archipel.control.store import runs
from archipel.control.store.database import Database
from archipel.federated.clashes import require_compressed, require_secure
from archipel.federated.robust.cohorts import fewest_updates
from archipel.federated.secure.plan import secure_plan
from archipel.planner.inventory import reach_of
from archipel.planner.plan import draw_plan
from archipel.planner.traffic import Sizes
from archipel.spec import DatasetManifest, JobSpec, Plan, digest_of

_UNSEEN = digest_of(b"")


class Planning:
    """Draws plans."""

    def __init__(self, database: Database, fleet: Fleet, inventories: Inventories) -> None:
        self._database = database
        self._fleet = fleet
        self._inventories = inventories

    def plan(self, job: JobSpec) -> Plan:
        """Plan a job over the sites that hold its data set; one no run has checked yet counts with 0 rows.

        The size of the model is that of the newest version under the job's name, or of the first weights of its
        newest run; 0 where there is neither. Where the same work was done before, what it took is forecast; where not,
        what sites measured of themselves narrows the guess.
        """
        dataset = job.data.dataset
        named = job.federation.sites
        held = {
            site: manifest or DatasetManifest(dataset=dataset, digest=_UNSEEN, size_bytes=0, rows=0)
            for site, manifest in self._fleet.holders(dataset).items()
            if site not in job.helpers and (not named or site in named)
        }
        refused = {site: f"does not hold data set {dataset!r}" for site in named if site not in held}
        sizes = self._database.read(lambda connection: _sizes(connection, job.name))
        require_secure(job)
        require_compressed(job)
        seen = self._database.read(lambda connection: seen_before(connection, job))
        reaches = {site: reach_of(found) for site, found in self._inventories.newest().items() if site in held}
        plan = draw_plan(job, held, sizes, refused=refused, seen=seen, reaches=reaches)
        fewest = fewest_updates(job.federation, len(plan.participants))
        return msgspec.structs.replace(plan, secure=secure_plan(job, plan.cohort_size, fewest))


def _sizes(connection: Connection, name: str) -> Sizes:
    newest = next((row.id for row in runs.run_rows(connection) if row.name == name), None)
    known = Sizes(model_bytes=0) if newest is None else sizes_of(connection, newest)
    registered = rows.list_models(connection, name)
    if not registered or registered[0].weights.size_bytes == known.model_bytes:
        return known
    return Sizes(model_bytes=registered[0].weights.size_bytes)
