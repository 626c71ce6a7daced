"""Acceptance tests use `archipel` as people do: its commands, in a folder of their own, over real processes and TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.workspace import ISLANDS, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    place = Workspace(tmp_path)
    yield place
    place.stop()


@pytest.fixture(scope="session")
def islands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, str]]:
    """The demo, run once and left serving; and all it said."""
    place = Workspace(tmp_path_factory.mktemp("islands"))
    try:
        yield place, place.cli("run", str(ISLANDS))
    finally:
        place.stop()
