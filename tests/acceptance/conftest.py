"""Acceptance tests use `archipel` as people do: its commands, in a folder of their own, over real processes and TLS."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.workspace import ISLANDS, Workspace


@pytest.fixture(scope="session", autouse=True)
def heeding_ctrl_c() -> None:
    """Undo what nohup, or a script's `&`, around the tests hands down to the commands: a Ctrl-C that is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    place = Workspace(tmp_path)
    yield place
    print(place.logs(lines=60))  # noqa: T201 - shown where the test failed
    place.stop()


@pytest.fixture(scope="session")
def islands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, str]]:
    """The demo, run once and left serving; and all it said."""
    place = Workspace(tmp_path_factory.mktemp("islands"))
    try:
        yield place, place.cli("run", str(ISLANDS))
    finally:
        place.stop()
