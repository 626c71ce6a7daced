"""The end of a run: its model is registered with all it was made from, and ordered served; once a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from sqlalchemy import Connection

from archipel.control.services.audit import EventLog
from archipel.control.services.audit import keep_within as log_within
from archipel.control.services.models.registry import Registry, register_within
from archipel.control.services.rounds import traffic
from archipel.control.services.rounds.driver import Desk, Driver
from archipel.control.store import runs as rows
from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.federated.port import Finish
from archipel.spec import Blob, Lineage, ModelVersion, digest_value, failpoint, unpack
from archipel.spec.wire import Forget
from archipel.tasks.metrics import summarise

T = TypeVar("T")
FEDERATED = "federated"


class Finisher:
    """Registers models."""

    def __init__(self, desk: Desk, registry: Registry, spool: Spool, artefacts: Artefacts) -> None:
        self._desk = desk
        self._registry = registry
        self._spool = spool
        self._artefacts = artefacts

    def finish(self, driver: Driver, finish: Finish) -> ModelVersion:
        """Carry out a Finish."""
        kept = [blob for blob in (finish.model, finish.onnx) if blob is not None]
        for blob in kept:
            self._keep(driver, blob)
        failpoint("control.finish.after_artefact")
        model = self._register(driver, self._draft(driver, finish))
        failpoint("control.finish.after_register")
        self._desk.holdings.hold(model_holder(model), [blob.digest for blob in (model.weights, model.onnx) if blob])
        self.tidy(driver)
        for site in orders_of(driver):
            for serve in self._registry.serves(site):
                self._desk.attendances.push(site, serve)
        self._desk.attendances.dismiss(driver.parties, Forget(run=driver.run))
        return model

    def tidy(self, driver: Driver) -> None:
        """Drop what only the run itself needed."""
        self._desk.holdings.let_go(driver.holder, self._desk.holdings.held_by(driver.holder))
        self._desk.holdings.drop_left()
        self._desk.database.write(lambda connection: rows.tidy_run(connection, driver.run, self._desk.clock()))

    def _keep(self, driver: Driver, blob: Blob) -> None:
        self._desk.holdings.hold(driver.holder, [blob.digest])
        if not self._artefacts.has(blob.digest):
            self._artefacts.put_file(self._spool.require(blob.digest), blob)

    def _draft(self, driver: Driver, finish: Finish) -> ModelVersion:
        left_out = driver.coordinator.progress().excluded
        manifests = {site: found for site, found in sorted(driver.needs.datasets.items()) if site not in left_out}
        lineage = Lineage(
            job=driver.job.digest,
            bundle=driver.bundle.digest,
            datasets={site: digest_value(manifest) for site, manifest in manifests.items()},
            participation=finish.participation,
            previous=driver.needs.previous,
        )
        return ModelVersion(
            name=driver.job.name,
            version=1,
            run=driver.run,
            weights=finish.model,
            onnx=finish.onnx,
            metrics={} if finish.sums is None else self._metrics(finish.sums),
            lineage=lineage,
        )

    def _metrics(self, sums: Blob) -> dict[str, float]:
        return summarise(sums_of_model(unpack(self._artefacts.fetch(sums, self._spool)), FEDERATED))

    def _register(self, driver: Driver, draft: ModelVersion) -> ModelVersion:
        moved = driver.traffic.take()

        def change(connection: Connection) -> ModelVersion:
            now = self._desk.clock()
            model = register_within(connection, draft, orders_of(driver), now)
            rows.end_run(connection, driver.run, now)
            traffic.write_within(connection, driver.run, moved)
            log: EventLog = self._desk.log
            said = log.event("model.registered", run=driver.run, model=model.name, version=model.version)
            log_within(connection, said, log.event("run.finished", run=driver.run))
            return model

        return self._desk.database.write(change)


def sums_of_model(sums: Mapping[str, T], model: str) -> dict[str, T]:
    """Return the sums of one model out of those of an evaluation, whose keys are "MODEL|SUM"."""
    prefix = f"{model}|"
    return {key.removeprefix(prefix): value for key, value in sums.items() if key.startswith(prefix)}


def orders_of(driver: Driver) -> dict[str, str]:
    """Return which copy each site of a finished run is to serve."""
    copy = driver.job.deployment.serve
    if copy == "none":
        return {}
    excluded = driver.coordinator.progress().excluded
    return {site: copy for site in driver.sites if site not in excluded}


def model_holder(model: ModelVersion) -> str:
    """Return the name under which the registry holds a version's blobs."""
    return f"model/{model.name}/{model.version}"
