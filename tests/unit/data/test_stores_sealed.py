"""Spools and artefact stores with a data key: the same blobs, and no plain byte of them on the disk."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.files import Draft, open_file
from archipel.data.stores.spool import Spool
from archipel.security.sealing import CHUNK_BYTES, Sealing, chunk_place, sealed_bytes
from archipel.spec import Blob, DigestError, SealError, digest_of
from archipel.spec.failpoint import VARIABLE

SEALING = Sealing(bytes(range(32)))
SMALL = b"a row of the island of coral, which nobody may find"
BIG = hashlib.shake_128(b"big").digest(5 * CHUNK_BYTES + 77)


def blob_of(data: bytes) -> Blob:
    return Blob(digest=digest_of(data), size_bytes=len(data))


@pytest.mark.parametrize("data", [b"", SMALL, BIG, BIG[: 2 * CHUNK_BYTES]])
@pytest.mark.attack("thief", "read a sealed blob on a disk", open="PostgreSQL are not encrypted by Archipel.")
def test_a_blob_comes_back_and_its_bytes_are_not_on_the_disk(tmp_path: Path, data: bytes) -> None:
    spool = Spool(tmp_path, SEALING)
    blob = spool.put(data)
    assert blob == blob_of(data)
    assert b"".join(spool.read(blob.digest)) == data
    assert bytes(spool.view(blob.digest)) == data
    assert spool.have(blob) == len(data)
    on_disk = spool.require(blob.digest).read_bytes()
    assert len(on_disk) == sealed_bytes(len(data))
    assert not data or data[:40] not in on_disk


@given(offset=st.integers(0, len(BIG) + 10), size=st.integers(0, 3 * CHUNK_BYTES))
def test_reading_begins_anywhere(tmp_path_factory: pytest.TempPathFactory, offset: int, size: int) -> None:
    spool = Spool(tmp_path_factory.getbasetemp() / "anywhere", SEALING)
    digest = spool.put(BIG).digest
    with spool.open(digest) as file:
        file.seek(offset)
        assert file.read(size) == BIG[offset : offset + size]


PIECES = st.lists(st.tuples(st.integers(0, 3 * CHUNK_BYTES), st.integers(1, CHUNK_BYTES + 9)), max_size=6)


@given(order=PIECES)
@pytest.mark.parametrize("sealing", [None, SEALING], ids=["plain", "sealed"])
def test_a_draft_is_written_in_any_order_and_over_again(
    tmp_path_factory: pytest.TempPathFactory, sealing: Sealing | None, order: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "draft"
    whole = bytearray(4 * CHUNK_BYTES + 9)
    with Draft(path, len(whole), sealing) as draft:
        for number, (begin, size) in enumerate(order):
            part = bytes([number + 1]) * min(size, len(whole) - begin)
            draft.write(part, begin)
            whole[begin : begin + len(part)] = part
        if sealing is None:
            draft.write(bytes(whole[-1:]), len(whole) - 1)  # a plain file is as long as what was written
        digest = draft.finish()
    assert digest == digest_of(bytes(whole))
    with open_file(path, digest, sealing) as file:
        assert file.readall() == whole


def test_a_broken_transfer_goes_on_at_a_whole_chunk(tmp_path: Path) -> None:
    blob = blob_of(BIG)
    with Spool(tmp_path, SEALING).receive(blob) as incoming:
        incoming.write(BIG[: 2 * CHUNK_BYTES + 100])
    spool = Spool(tmp_path, SEALING)
    assert spool.have(blob) == 2 * CHUNK_BYTES
    with spool.receive(blob) as incoming:
        assert incoming.size == 2 * CHUNK_BYTES
        incoming.write(BIG[2 * CHUNK_BYTES :])
    assert b"".join(spool.read(blob.digest)) == BIG


@pytest.mark.parametrize("place", [0, 20, 70, chunk_place(0) + 50, chunk_place(1) + 3])
@pytest.mark.attack("thief", "change a blob while it arrives", result="detected")
def test_what_has_arrived_and_was_changed_comes_again(tmp_path: Path, place: int) -> None:
    spool, blob = Spool(tmp_path, SEALING), blob_of(BIG)
    with spool.receive(blob) as incoming:
        incoming.write(BIG[: 3 * CHUNK_BYTES])
    [partial] = (tmp_path / "partial").iterdir()
    data = bytearray(partial.read_bytes())
    data[place] ^= 1
    partial.write_bytes(data)
    with spool.receive(blob) as incoming:
        assert incoming.size == max(0, place - chunk_place(0)) // CHUNK_BYTES * CHUNK_BYTES
        incoming.write(BIG[incoming.size :])
    assert b"".join(spool.read(blob.digest)) == BIG


def test_wrong_bytes_are_refused_when_whole(tmp_path: Path) -> None:
    spool, blob = Spool(tmp_path, SEALING), blob_of(BIG)
    with pytest.raises(DigestError), spool.receive(blob) as incoming:
        incoming.write(BIG[:-1] + b"!")
    assert spool.have(blob) == 0


@pytest.mark.parametrize("cut", [0, 50, chunk_place(0), chunk_place(2), chunk_place(5) + 9])
@pytest.mark.attack("thief", "cut a sealed blob", result="detected")
def test_a_blob_that_was_cut_does_not_open_and_stays(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path, SEALING)
    path = spool.path(spool.put(BIG).digest)
    os.truncate(path, cut)
    with pytest.raises(SealError) as caught:
        spool.view(digest_of(BIG))
    assert caught.value.hint
    assert path.stat().st_size == cut


def test_a_blob_under_anothers_name_does_not_open(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SEALING)
    one, two = spool.put(SMALL), spool.put(SMALL[::-1])
    spool.path(two.digest).write_bytes(spool.path(one.digest).read_bytes())
    with pytest.raises(SealError):
        spool.view(two.digest)


def test_plain_blobs_are_sealed_once_there_is_a_key(tmp_path: Path) -> None:
    plain = Spool(tmp_path)
    digests = [plain.put(data).digest for data in (SMALL, BIG, b"")]
    with plain.receive(blob_of(b"half of it")) as incoming:
        incoming.write(b"half")
    forged = plain.put(b"true")
    plain.path(forged.digest).write_bytes(b"false")
    spool = Spool(tmp_path, SEALING)
    spool.seal_plain()
    spool.seal_plain()
    assert [bytes(spool.view(digest)) for digest in digests] == [SMALL, BIG, b""]
    assert list((tmp_path / "partial").iterdir()) == []
    assert spool.path(forged.digest).read_bytes() == b"false", "it stays for whoever looks into it"
    with pytest.raises(SealError):
        spool.view(forged.digest)


def test_spool_and_store_share_a_sealed_file(tmp_path: Path) -> None:
    spool, store = Spool(tmp_path / "spool", SEALING), Artefacts.open(str(tmp_path / "store"), SEALING)
    blob = spool.put(BIG)
    store.put_file(spool.require(blob.digest), blob)
    assert spool.path(blob.digest).stat().st_nlink == 2
    for offset in (0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5, len(BIG) - 1, len(BIG)):
        assert b"".join(store.read(blob.digest, offset, 2 * CHUNK_BYTES)) == BIG[offset:]
    other = Spool(tmp_path / "other", SEALING)
    assert store.fetch(blob, other) == BIG


@pytest.mark.parametrize("place", [3, 60, 90, chunk_place(0) + 1, chunk_place(4) + 70])
@pytest.mark.attack("thief", "change a sealed artefact", result="detected")
def test_a_changed_artefact_is_named_and_stays(tmp_path: Path, place: int) -> None:
    spool, store = Spool(tmp_path / "spool", SEALING), Artefacts.open(str(tmp_path / "store"), SEALING)
    blob = spool.put(BIG)
    store.put_file(spool.require(blob.digest), blob)
    path = spool.path(blob.digest)
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(SealError):
        list(store.read(blob.digest))
    assert store.has(blob.digest)


def test_artefacts_from_before_the_key_are_read_only_if_they_are_true(tmp_path: Path) -> None:
    plain, before = Spool(tmp_path / "spool"), Artefacts.open(str(tmp_path / "store"))
    blob = plain.put(BIG)
    before.put_file(plain.require(blob.digest), blob)
    store = Artefacts.open(str(tmp_path / "store"), SEALING)
    assert b"".join(store.read(blob.digest, 5)) == BIG[5:]
    plain.path(blob.digest).write_bytes(BIG[:-1] + b"!")
    with pytest.raises(SealError, match="neither sealed"):
        next(store.read(blob.digest))


PROGRAM = """
import sys
from pathlib import Path
from archipel.data.stores.spool import Spool
from archipel.security.sealing import Sealing
spool = Spool(Path(sys.argv[1]), Sealing(bytes(range(32))))
spool.put(Path(sys.argv[2]).read_bytes())
"""


@pytest.mark.parametrize("name", ["spool.receive.before_fsync", "spool.receive.after_fsync"])
def test_killed_while_it_writes_nothing_half_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "big").write_bytes(BIG)
    environment = {**os.environ, VARIABLE: f"{name}@{tmp_path / 'marker'}"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "spool"), str(tmp_path / "big")]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    spool = Spool(tmp_path / "spool", SEALING)
    assert not spool.has(digest_of(BIG))
    spool.put(BIG)
    assert bytes(spool.view(digest_of(BIG))) == BIG
