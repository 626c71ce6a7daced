"""A database with the present schema, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archipel.control.store import schema
from archipel.control.store.database import Database

NewUrl = Callable[[], str]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> NewUrl:
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path / 'control.db'}"
    return request.getfixturevalue("postgres").database


@pytest.fixture
def url(new_url: NewUrl) -> str:
    return new_url()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    schema.upgrade(opened)
    yield opened
    opened.close()
