"""The registry: versions of a model under its job's name, each with all it was made from."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection

from archipel.control.store import models as rows
from archipel.control.store.database import Database
from archipel.spec import ModelVersion, UnknownNameError, decode
from archipel.spec.views import ModelsPage
from archipel.spec.wire import Serve


class Registry:
    """Reads model versions and deployments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, name: str | None = None) -> ModelsPage:
        """Return versions, newest first within a name; an UnknownNameError for a name nobody registered."""
        found = self._database.read(lambda connection: rows.list_models(connection, name))
        if name is not None and not found:
            raise UnknownNameError.of("model", name, {model.name for model in self.list().models})
        return ModelsPage(models=tuple(found))

    def count(self) -> int:
        """Return how many versions there are."""
        return len(self._database.read(rows.versions_of_runs))

    def show(self, name: str, version: int) -> ModelVersion:
        """Return one version."""
        found = self._database.read(lambda connection: rows.find_model(connection, name, version))
        if found is None:
            known = [str(model.version) for model in self.list(name).models]
            raise UnknownNameError.of(f"version of model {name!r}:", str(version), known)
        return found

    def serves(self, site: str) -> tuple[Serve, ...]:
        """Return what a site is to serve."""
        found = self._database.read(lambda connection: rows.deployed_at(connection, site))
        return tuple(Serve(model=decode(row.value.encode(), ModelVersion), copy=row.copy) for row in found)


def register_within(connection: Connection, draft: ModelVersion, orders: Mapping[str, str], now: float) -> ModelVersion:
    """Register a run's model, `draft`, as the next version under its name, and order it served; once a run.

    `orders` maps sites to the copy ("global" or "personalised") they are to serve.
    """
    found = rows.model_of_run(connection, draft.run)
    if found is not None:
        return found
    model = msgspec.structs.replace(draft, version=rows.next_version(connection, draft.name))
    rows.add_model(connection, model, now)
    for site, copy in orders.items():
        rows.deploy(connection, model, site, copy, now)
    return model
