"""Where a key file goes that nobody has named: outside of the folder, unless it could vanish while the data stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from archipel.security.sealing import DEFAULT_KEY, key_url, open_sealing


@dataclass(frozen=True)
class Machine:
    """What a process finds, and whether its key then lies outside."""

    name: str
    environment: dict[str, str]
    mounts: str
    is_one_disk: bool
    is_outside: bool


HOME = {"HOME": "{home}"}
MACHINES = [
    Machine("a laptop", HOME, "/dev/sda / ext4 rw 0 0\n", is_one_disk=True, is_outside=True),
    Machine("a disk for the data", HOME, "/dev/sda / ext4 rw 0 0\n", is_one_disk=False, is_outside=True),
    Machine("a container with a volume", HOME, "overlay / overlay rw 0 0\n", is_one_disk=False, is_outside=False),
    Machine("a container without", HOME, "overlay / overlay rw 0 0\n", is_one_disk=True, is_outside=True),
    Machine(
        "a home in memory", HOME, "/dev/sda / ext4 rw\ntmpfs {home} tmpfs rw\n", is_one_disk=False, is_outside=False
    ),
    Machine("no home", {}, "/dev/sda / ext4 rw 0 0\n", is_one_disk=True, is_outside=False),
    Machine("data around the home", {"HOME": "{state}"}, "/dev/sda / ext4 rw\n", is_one_disk=True, is_outside=False),
    Machine("a named place", {"XDG_CONFIG_HOME": "{home}"}, "/dev/sda / ext4 rw\n", is_one_disk=True, is_outside=True),
    Machine("no list of mounts", HOME, "", is_one_disk=False, is_outside=False),
]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_a_key_lies_outside_unless_it_could_be_lost_before_the_data(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, home, mounts = tmp_path / "state", tmp_path / "home", tmp_path / "mounts"
    for folder in (state, home):
        folder.mkdir()
    mounts.write_text(machine.mounts.format(home=home))
    real: Callable[..., object] = Path.stat

    def stat(path: Path, **options: bool) -> object:
        found = real(path, **options)
        if path.is_relative_to(state) and not machine.is_one_disk:
            return SimpleNamespace(st_dev=-1, st_mode=found.st_mode)  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(Path, "stat", stat)
    environment = {name: value.format(home=home, state=state) for name, value in machine.environment.items()}
    url = key_url(state, environment, mounts)
    assert (url != DEFAULT_KEY) == machine.is_outside
    assert not machine.is_outside or url.startswith(f"file:{home}")


def test_a_mount_list_that_cannot_be_read_is_as_good_as_a_container(tmp_path: Path) -> None:
    assert key_url(tmp_path, {"HOME": "/proc"}, tmp_path / "none") == DEFAULT_KEY


def test_two_folders_of_one_name_have_two_keys_and_each_is_for_its_owner_alone(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    folders = [tmp_path / "a" / "state", tmp_path / "b" / "state"]
    keys = []
    for folder in folders:
        folder.mkdir(parents=True)
        url = key_url(folder, environment)
        assert open_sealing(folder, url) is not None
        keys.append(Path(url.removeprefix("file:")))
    assert keys[0].name != keys[1].name
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600, 0o600]
    assert not [path for folder in folders for path in folder.iterdir() if path.suffix == ".key"]
