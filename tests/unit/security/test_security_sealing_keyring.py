"""Keyrings: made at the first start, opened by their key alone, wrapped anew without a step in which neither opens."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from archipel.security.sealing import DEFAULT_KEY, KEYRING, open_sealing, rekey, wrapping_of
from archipel.spec import ArchipelError, SpecError, StateError, TrustError, UnknownNameError, decode
from archipel.spec.failpoint import VARIABLE

FAILPOINTS = ("security.rekey.before_replace", "security.rekey.after_replace")
KMS = """
import sys
verb, key = sys.argv[1], 0x5A
sys.stdout.buffer.write(bytes(byte ^ key for byte in sys.stdin.buffer.read()))
"""


def kms(folder: Path, text: str = KMS) -> str:
    program = folder / "kms.py"
    program.write_text(text, encoding="utf-8")
    return f"command:{sys.executable} {program}"


def key_of(folder: Path) -> bytes:
    sealing = open_sealing(folder, None, first=DEFAULT_KEY)
    assert sealing is not None
    return sealing.data_key


def test_the_first_start_makes_a_key_for_its_owner_alone_and_later_ones_use_it(tmp_path: Path) -> None:
    first = key_of(tmp_path)
    assert key_of(tmp_path) == first
    for name in (KEYRING, "seal.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert first.hex() not in (tmp_path / KEYRING).read_text()


def test_a_folder_that_was_moved_is_opened_by_the_key_in_it(tmp_path: Path) -> None:
    first = key_of(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert key_of(tmp_path / "there") == first


def test_a_key_may_lie_on_another_disk(tmp_path: Path) -> None:
    url = f"file:{tmp_path / 'disk' / 'our.key'}"
    sealing = open_sealing(tmp_path / "state", url)
    assert sealing is not None
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [KEYRING]
    assert key_of(tmp_path / "state") == sealing.data_key


def test_none_seals_nothing_until_something_was_sealed(tmp_path: Path) -> None:
    assert open_sealing(tmp_path, "none", first=DEFAULT_KEY) is None
    assert open_sealing(tmp_path, None) is None
    assert open_sealing(tmp_path, None, first=DEFAULT_KEY) is None, "it is remembered"
    assert open_sealing(tmp_path, DEFAULT_KEY) is not None
    with pytest.raises(StateError, match="is sealed under"):
        open_sealing(tmp_path, "none")


def test_a_folder_of_which_nothing_was_said_stays_as_it_is(tmp_path: Path) -> None:
    assert open_sealing(tmp_path, None) is None
    assert list(tmp_path.iterdir()) == []


def _lose(folder: Path) -> None:
    (folder / "seal.key").unlink()


def _other(folder: Path) -> None:
    (folder / "seal.key").write_text(bytes(32).hex())


def _open_to_all(folder: Path) -> None:
    (folder / "seal.key").chmod(0o644)


def _cut(folder: Path) -> None:
    (folder / "seal.key").write_text("00ff")


def _of_another_folder(folder: Path) -> None:
    key_of(folder / "other")
    (folder / "other" / KEYRING).replace(folder / KEYRING)


def _torn(folder: Path) -> None:
    (folder / KEYRING).write_bytes((folder / KEYRING).read_bytes()[:-9])


@pytest.mark.parametrize("harm", [_lose, _other, _open_to_all, _cut, _of_another_folder, _torn])
@pytest.mark.attack("thief", "open a keyring without its key, or changed")
def test_without_the_right_key_nothing_starts_and_the_next_step_is_said(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    key_of(tmp_path)
    harm(tmp_path)
    with pytest.raises(TrustError) as caught:
        open_sealing(tmp_path, None)
    assert caught.value.hint


def test_files_wrap_as_the_standard_says(tmp_path: Path) -> None:
    # RFC 3394, section 4.6.
    (tmp_path / "k").write_text("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F")
    (tmp_path / "k").chmod(0o600)
    data = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
    wrapped = wrapping_of("file:k", tmp_path).wrap(data)
    assert wrapped.hex().upper() == "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"


def test_a_command_wraps_and_unwraps(tmp_path: Path) -> None:
    sealing = open_sealing(tmp_path / "state", kms(tmp_path))
    assert sealing is not None
    assert key_of(tmp_path / "state") == sealing.data_key
    assert [path.name for path in (tmp_path / "state").iterdir()] == [KEYRING]


def test_a_command_that_gives_another_key_is_found(tmp_path: Path) -> None:
    open_sealing(tmp_path / "state", kms(tmp_path))
    kms(tmp_path, KMS.replace("0x5A", "0x5B"))
    with pytest.raises(TrustError, match="does not open"):
        open_sealing(tmp_path / "state", None)


@pytest.mark.parametrize("text", ["raise SystemExit('no such key')", "", "import os; os.abort()"])
def test_a_command_that_fails_is_named_and_leaves_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(TrustError, match="failed to wrap"):
        open_sealing(tmp_path / "state", kms(tmp_path, text))
    assert not (tmp_path / "state" / KEYRING).exists()


@pytest.mark.parametrize(
    ("url", "error"), [("file:", SpecError), ("seal.key", SpecError), ("fil:seal.key", UnknownNameError)]
)
def test_a_url_nobody_knows_is_refused(tmp_path: Path, url: str, error: type[ArchipelError]) -> None:
    with pytest.raises(error) as caught:
        open_sealing(tmp_path, url)
    assert caught.value.hint


@pytest.mark.attack(
    "former operator",
    "use a key of the keyring that was replaced",
    result="open",
    open="Opens only copies of the keyring from before, and with one of them everything",
)
def test_rekeying_changes_the_key_and_not_what_is_sealed(tmp_path: Path) -> None:
    before = key_of(tmp_path)
    new = rekey(tmp_path)
    assert key_of(tmp_path) == before
    (tmp_path / "seal.key").unlink()
    assert key_of(tmp_path) == before, "the old key is not needed any more"
    assert rekey(tmp_path, kms(tmp_path)) != new
    assert key_of(tmp_path) == before


def test_rekeying_is_refused_where_nothing_is_sealed_or_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="nothing is sealed"):
        rekey(tmp_path)
    open_sealing(tmp_path, "none")
    with pytest.raises(StateError, match="nothing is sealed"):
        rekey(tmp_path)
    open_sealing(tmp_path, DEFAULT_KEY)
    with pytest.raises(SpecError, match="stays sealed"):
        rekey(tmp_path, "none")


def test_rekeying_to_a_key_that_does_not_work_changes_nothing(tmp_path: Path) -> None:
    before, keyring = key_of(tmp_path), (tmp_path / KEYRING).read_bytes()
    with pytest.raises(TrustError):
        rekey(tmp_path, kms(tmp_path, "import os, sys; sys.stdout.buffer.write(os.urandom(32))"))
    assert (tmp_path / KEYRING).read_bytes() == keyring
    assert key_of(tmp_path) == before


@pytest.mark.parametrize("name", FAILPOINTS)
def test_rekeying_killed_at_any_step_leaves_a_keyring_that_opens(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "state"
    before = key_of(folder)
    program = f"from pathlib import Path; from archipel.security.sealing import rekey; rekey(Path({str(folder)!r}))"
    environment = {**os.environ, VARIABLE: f"{name}@{tmp_path / 'marker'}"}
    died = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert died.returncode == -signal.SIGKILL
    assert key_of(folder) == before
    is_old = decode((folder / KEYRING).read_bytes(), dict[str, str])["key"] == "file:seal.key"
    assert is_old == name.endswith("before_replace")
    rekey(folder)
    assert key_of(folder) == before
