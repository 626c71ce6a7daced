"""What lasts is sealed from its first start, unless somebody has said otherwise."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from archipel.cli.processes import FLEET
from archipel.cli.sealing import KEY, seal_from_the_start
from archipel.data.stores.spool import Spool
from archipel.security.sealing import KEYRING, open_sealing


@pytest.fixture(autouse=True)
def nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FLEET, KEY):
        monkeypatch.delenv(name, raising=False)


def start(folder: Path, key: str | None = None) -> str:
    said = io.StringIO()
    seal_from_the_start(folder, key, Console(file=said, width=1000))
    return said.getvalue()


def test_the_first_start_makes_a_key_and_says_where_it_is_and_later_ones_are_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    said = start(tmp_path / "state")
    (key,) = (tmp_path / "config" / "archipel" / "keys").iterdir()
    assert str(key) in said
    assert "back it up" in said
    assert open_sealing(tmp_path / "state", None) is not None
    assert start(tmp_path / "state") == ""
    key.unlink()
    assert start(tmp_path / "state") == "", "a key that is lost is not made again; opening says so"


@pytest.mark.parametrize(
    ("key", "environment"),
    [("none", {}), ("file:mine.key", {}), (None, {KEY: "command:our-kms"}), (None, {FLEET: "/a/local/run"})],
)
def test_nothing_is_made_where_somebody_has_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert start(tmp_path / "state", key) == ""
    assert not (tmp_path / "state").exists()


def test_a_folder_that_was_plain_opens_and_its_blobs_are_sealed(tmp_path: Path) -> None:
    blob = Spool(tmp_path / "spool").put(b"an update from before")
    start(tmp_path)
    assert (tmp_path / KEYRING).stat().st_mode & 0o777 == 0o600
    spool = Spool(tmp_path / "spool", open_sealing(tmp_path, None))
    spool.seal_plain()  # as control and agents do when they start
    with spool.open(blob.digest) as file:
        assert file.read() == b"an update from before"
    assert not [path for path in spool.folder.rglob("*") if path.is_file() and b"update" in path.read_bytes()]
