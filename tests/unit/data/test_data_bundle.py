"""Bundles: the same bytes for the same files, and nothing a stranger can put into a zip does harm."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data.bundle import LIMIT_BYTES, open_bundle, pack_bundle, read_bundle
from archipel.spec import DigestError, SpecError, StorageFullError, TrustError


def fill(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_what_was_packed_is_unpacked(tmp_path):
    files = {"task.py": b"x = 1\n", "lib/deep.py": b"", "words.txt": b"\x00\xff"}
    data = pack_bundle(fill(tmp_path / "job", files), ["**/*.py", "*.txt"])
    open_bundle(data, tmp_path / "out" / "bundle")
    there = {f.relative_to(tmp_path / "out/bundle").as_posix() for f in (tmp_path / "out").rglob("*") if f.is_file()}
    assert there == set(files)
    assert (tmp_path / "out/bundle/words.txt").read_bytes() == b"\x00\xff"
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["bundle"]


def test_bytes_depend_on_names_and_contents_only(tmp_path):
    one = fill(tmp_path / "one", {"a.py": b"1", "b.py": b"2"})
    two = fill(tmp_path / "two", {"b.py": b"2", "a.py": b"1"})
    os.utime(two / "a.py", (0, 10**9))
    (two / "b.py").chmod(0o755)
    assert pack_bundle(one, ["*.py"]) == pack_bundle(two, ["b.py", "a.py", "*.py"])
    assert pack_bundle(one, ["*.py"]) != pack_bundle(one, ["a.py"])


def test_hidden_files_and_caches_stay_out(tmp_path):
    fill(tmp_path, {"a.py": b"", ".secret.py": b"", "__pycache__/a.py": b"", ".git/hook.py": b""})
    assert list(read_bundle(pack_bundle(tmp_path, ["**/*.py"]))) == ["a.py"]


@pytest.mark.parametrize("pattern", ["../*.py", "/etc/*", "a/../../x", "", "."])
def test_a_pattern_that_leaves_the_folder_is_refused(tmp_path, pattern):
    fill(tmp_path / "job", {"a.py": b""})
    with pytest.raises(SpecError):
        pack_bundle(tmp_path / "job", [pattern])


@pytest.mark.parametrize("pattern", ["**", "lib/**", "lib/**/"])
def test_a_pattern_that_means_other_files_in_another_python_is_refused(tmp_path, pattern):
    fill(tmp_path / "job", {"lib/a.py": b""})
    with pytest.raises(SpecError, match=r"ends in \*\*") as caught:
        pack_bundle(tmp_path / "job", ["lib/*.py", pattern])
    assert "**/*" in caught.value.hint


def test_a_link_is_not_packed(tmp_path):
    fill(tmp_path, {"outside.py": b"", "job/a.py": b"", "elsewhere/b.py": b""})
    (tmp_path / "job/b.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(SpecError, match=r"b\.py is a link"):
        pack_bundle(tmp_path / "job", ["*.py"])
    (tmp_path / "job/b.py").unlink()
    (tmp_path / "job/lib").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpecError, match="is a link"):
        pack_bundle(tmp_path / "job", ["lib/*.py"])


def test_nothing_to_pack_is_an_error(tmp_path):
    with pytest.raises(SpecError, match=r"matches \*\.py"):
        pack_bundle(tmp_path, ["*.py"])


def a_zip(*members, compress=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compress) as archive:
        for name, content, mode in members:
            entry = zipfile.ZipInfo(name)
            entry.filename = name
            entry.compress_type = compress
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return out.getvalue()


PLAIN = stat.S_IFREG | 0o644


@dataclass
class Attack:
    name: str
    data: bytes


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def lie_about_size() -> bytes:
    data = bytearray(a_zip(("a.py", b"x" * 1000, PLAIN), compress=zipfile.ZIP_DEFLATED))
    place = data.rindex(b"PK\x01\x02") + 24
    data[place : place + 4] = (500).to_bytes(4, "little")
    return bytes(data)


ATTACKS = [
    Attack("climbs", a_zip(("../evil.py", b"", PLAIN))),
    Attack("climbs inside", a_zip(("lib/../../evil.py", b"", PLAIN))),
    Attack("absolute", a_zip(("/evil.py", b"", PLAIN))),
    Attack("drive", a_zip(("C:evil.py", b"", PLAIN))),
    Attack("backslash", a_zip(("..\\evil.py", b"", PLAIN))),
    Attack("dot", a_zip(("./a.py", b"", PLAIN))),
    Attack("double slash", a_zip(("lib//a.py", b"", PLAIN))),
    Attack("empty name", a_zip(("", b"", PLAIN))),
    Attack("control character", a_zip(("a\n.py", b"", PLAIN))),
    Attack("link", a_zip(("a.py", b"/etc/passwd", stat.S_IFLNK | 0o777))),
    Attack("device", a_zip(("a.py", b"", stat.S_IFCHR | 0o644))),
    Attack("fifo", a_zip(("a.py", b"", stat.S_IFIFO | 0o644))),
    Attack("folder", a_zip(("lib/", b"", PLAIN))),
    Attack("case", a_zip(("a.py", b"", PLAIN), ("A.py", b"", PLAIN))),
    Attack("file and folder", a_zip(("lib", b"", PLAIN), ("lib/a.py", b"", PLAIN))),
    Attack("twice", patched(a_zip(("a.py", b"1", PLAIN), ("b.py", b"2", PLAIN)), b"b.py", b"a.py")),
    Attack("bomb", a_zip(("a.py", b"\0" * 10_000_000, PLAIN), compress=zipfile.ZIP_DEFLATED)),
    Attack("packed unusually", a_zip(("a.py", b"x" * 100, PLAIN), compress=zipfile.ZIP_LZMA)),
    Attack("lies about its size", lie_about_size()),
    Attack("cut short", a_zip(("a.py", b"x" * 100, PLAIN))[:-10]),
    Attack("changed content", patched(a_zip(("a.py", b"good", PLAIN)), b"good", b"evil")),
    Attack("empty", b""),
    Attack("not a zip", b"PK\x03\x04 nothing"),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.attack("hostile control", "do harm by a bundle's archive")
def test_an_attack_is_refused_and_leaves_nothing(tmp_path, attack):
    with pytest.raises(TrustError) as caught:
        open_bundle(attack.data, tmp_path / "sub" / "bundle")
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.attack("hostile control", "fill a disk by a bundle")
def test_more_than_the_limit_is_refused_in_both_directions(tmp_path):
    half = b"\x00" * (LIMIT_BYTES // 2 + 1)
    with pytest.raises(TrustError, match="too much"):
        read_bundle(a_zip(("a", half, PLAIN), ("b", half, PLAIN)))
    with pytest.raises(SpecError, match="larger than"):
        pack_bundle(fill(tmp_path, {"a.py": half, "b.py": half}), ["*.py"])


def test_unpacking_twice_is_fine_and_a_change_in_between_is_found(tmp_path):
    data = pack_bundle(fill(tmp_path / "job", {"a.py": b"1"}), ["*.py"])
    target = tmp_path / "bundle"
    open_bundle(data, target)
    open_bundle(data, target)
    (target / "__pycache__").mkdir()
    (target / "__pycache__/a.pyc").touch()
    open_bundle(data, target)
    (target / "planted.py").touch()
    with pytest.raises(DigestError, match="was changed"):
        open_bundle(data, target)
    (target / "planted.py").unlink()
    (target / "a.py").write_bytes(b"2")
    with pytest.raises(DigestError, match="was changed"):
        open_bundle(data, target)


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    data = pack_bundle(fill(tmp_path / "job", {"a.py": b"1", "b.py": b"2"}), ["*.py"])
    write = Path.write_bytes

    def full(self, content):
        if self.name == "b.py":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageFullError):
        open_bundle(data, tmp_path / "site" / "bundle")
    assert not list((tmp_path / "site").iterdir())


def test_several_processes_may_unpack_the_same_bundle(tmp_path):
    data = pack_bundle(fill(tmp_path / "job", {f"f{n}.py": b"x" * n for n in range(50)}), ["*.py"])
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(open_bundle, [(data, tmp_path / "bundle")] * 6)
    assert len(list((tmp_path / "bundle").iterdir())) == 50
    assert not list(tmp_path.glob(".bundle-*"))


@given(noise=st.binary(max_size=200))
def test_noise_is_refused_and_never_crashes(noise):
    with pytest.raises(TrustError):
        read_bundle(noise)


@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_one_changed_byte_gives_the_same_files_or_a_refusal(place, byte):
    data = bytearray(a_zip(("task.py", b"x = 1\n", PLAIN)))
    data[place % len(data)] = byte
    try:
        members = read_bundle(bytes(data))
    except TrustError:
        return
    assert list(members.values()) in ([b"x = 1\n"], [])
