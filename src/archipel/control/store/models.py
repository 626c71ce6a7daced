"""Rows about registered models and where they are to be served."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from archipel.control.store.tables import deployments, models
from archipel.spec import ModelVersion, decode, encode


def model_of_run(connection: Connection, run: str) -> ModelVersion | None:
    """Return the version a run has made."""
    text = connection.execute(select(models.c.value).where(models.c.run == run)).scalar()
    return None if text is None else decode(text.encode(), ModelVersion)


def versions_of_runs(connection: Connection) -> dict[str, int]:
    """Return run → the version it has made."""
    rows = connection.execute(select(models.c.run, models.c.version))
    return {str(run): int(version) for run, version in rows}


def next_version(connection: Connection, name: str) -> int:
    """Return the version number that comes next under a name."""
    return (connection.execute(select(func.max(models.c.version)).where(models.c.name == name)).scalar() or 0) + 1


def add_model(connection: Connection, model: ModelVersion, now: float) -> None:
    """Remember a version; a run registers one, once."""
    connection.execute(
        insert(models).values(
            name=model.name, version=model.version, run=model.run, value=encode(model).decode(), registered_at=now
        )
    )


def list_models(connection: Connection, name: str | None = None) -> list[ModelVersion]:
    """Return versions by name, newest first."""
    question = select(models.c.value).order_by(models.c.name, models.c.version.desc())
    if name is not None:
        question = question.where(models.c.name == name)
    return [decode(text.encode(), ModelVersion) for text in connection.execute(question).scalars()]


def find_model(connection: Connection, name: str, version: int) -> ModelVersion | None:
    """Return one version."""
    here = (models.c.name == name) & (models.c.version == version)
    text = connection.execute(select(models.c.value).where(here)).scalar()
    return None if text is None else decode(text.encode(), ModelVersion)


def deploy(connection: Connection, model: ModelVersion, site: str, copy: str, now: float) -> None:
    """From now on `site` is to serve this version under the model's name."""
    connection.execute(delete(deployments).where(deployments.c.model == model.name, deployments.c.site == site))
    connection.execute(
        insert(deployments).values(model=model.name, site=site, version=model.version, copy=copy, ordered_at=now)
    )


def deployed_at(connection: Connection, site: str) -> list[Row[Any]]:
    """Return (value, copy) of what a site is to serve."""
    same = (models.c.name == deployments.c.model) & (models.c.version == deployments.c.version)
    return list(
        connection.execute(
            select(models.c.value, deployments.c.copy)
            .join(models, same)
            .where(deployments.c.site == site)
            .order_by(deployments.c.model)
        )
    )
