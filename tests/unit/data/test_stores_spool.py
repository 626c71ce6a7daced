"""The spool: blobs count only when they are whole and are what their name says."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.spec import Blob, DigestError, StateError, digest_of


def _blob(data: bytes) -> Blob:
    return Blob(digest=digest_of(data), size_bytes=len(data))


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=4000), cuts=st.lists(st.integers(0, 4000), max_size=4))
def test_a_blob_sent_in_broken_pieces_arrives_whole(tmp_path_factory, data: bytes, cuts: list[int]) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    blob = _blob(data)
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        with spool.receive(blob) as incoming:
            incoming.write(data[incoming.size : cut])
        assert spool.have(blob) == cut
    assert b"".join(spool.read(blob.digest)) == data
    assert b"".join(spool.read(blob.digest, offset=len(data) // 2)) == data[len(data) // 2 :]


def test_wrong_bytes_never_appear_under_the_name(tmp_path) -> None:
    spool = Spool(tmp_path)
    blob = _blob(b"right")
    with pytest.raises(DigestError, match="bytes its digest says"), spool.receive(blob) as incoming:
        incoming.write(b"wrong")
    assert not spool.has(blob.digest)
    assert spool.have(blob) == 0


@pytest.mark.parametrize(("came", "have"), [(b"rig", 3), (b"right", 5), (b"wrong", 0)])
def test_bytes_that_came_and_were_not_looked_at_are_looked_at_when_it_is_settled_how_many_are_here(
    tmp_path: Path, came: bytes, have: int
) -> None:
    spool = Spool(tmp_path)
    blob = _blob(b"right")
    with suppress(InterruptedError), spool.receive(blob) as incoming:
        incoming.write(came)
        raise InterruptedError
    assert spool.settle(blob) == have
    assert spool.has(blob.digest) == (came == b"right")


def test_more_bytes_than_announced_are_refused_at_once(tmp_path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(DigestError, match="longer"), spool.receive(_blob(b"abc")) as incoming:
        incoming.write(b"abcd")
    assert list((tmp_path / "partial").iterdir()) == []


def test_two_senders_of_one_blob_do_not_mix(tmp_path) -> None:
    spool = Spool(tmp_path)
    blob = _blob(b"0123456789")
    with spool.receive(blob, "a") as first, spool.receive(blob, "b") as second:
        first.write(b"01234")
        second.write(b"0123456789")
        first.write(b"56789")
    assert b"".join(spool.read(blob.digest)) == b"0123456789"


def test_who_publishes_late_leaves_the_blob_that_is_there_alone(tmp_path) -> None:
    spool, data = Spool(tmp_path), b"coral" * 100
    blob = Blob(digest=digest_of(data), size_bytes=len(data))
    with pytest.raises(RuntimeError), spool.receive(blob) as incoming:
        incoming.write(data)
        raise RuntimeError  # all of it is here, and nobody has looked at it
    late = ExitStack()
    late.enter_context(spool.receive(blob))
    with spool.receive(blob):
        pass  # published
    with spool.receive(blob):
        pass  # begun anew: an empty file under the name that was in partial/
    late.close()
    assert spool.require(blob.digest).read_bytes() == data


def test_an_exception_keeps_what_has_arrived(tmp_path) -> None:
    spool = Spool(tmp_path)
    blob = _blob(b"0123456789")
    with pytest.raises(ConnectionError), spool.receive(blob) as incoming:
        incoming.write(b"0123")
        raise ConnectionError
    assert spool.have(blob) == 4


def test_a_missing_blob_is_named(tmp_path) -> None:
    with pytest.raises(StateError, match="is not in"):
        Spool(tmp_path).require(digest_of(b"x"))


def test_drop_removes_the_blob_and_its_pieces(tmp_path) -> None:
    spool = Spool(tmp_path)
    blob = spool.put(b"data")
    with spool.receive(_blob(b"more"), "s") as incoming:
        incoming.write(b"mo")
    spool.drop(blob.digest)
    spool.drop(digest_of(b"more"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_finished_file_is_adopted(tmp_path) -> None:
    spool = Spool(tmp_path)
    with spool.draft("fold", 6) as draft:
        draft.write(b"result", 0)
        draft.finish()
    assert spool.adopt(draft) == _blob(b"result")
    assert not draft.path.exists()


def test_artefacts_in_a_folder_come_back_verified(tmp_path) -> None:
    store = Artefacts.open(f"file://{tmp_path}/artefacts")
    source = Spool(tmp_path / "a")
    data = os.urandom(100_000)
    blob = source.put(data)
    assert not store.has(blob.digest)
    store.put_file(source.require(blob.digest), blob)
    assert store.has(blob.digest)
    target = Spool(tmp_path / "b")
    assert store.fetch(blob, target) == data
    assert b"".join(store.read(blob.digest, offset=7, piece_bytes=999)) == data[7:]


def test_a_damaged_artefact_is_found_out(tmp_path) -> None:
    store = Artefacts.open(str(tmp_path / "artefacts"))
    blob = Spool(tmp_path / "a").put(b"good bytes")
    store.put_file(Spool(tmp_path / "a").require(blob.digest), blob)
    for path in (tmp_path / "artefacts").rglob("*"):
        if path.is_file():
            path.write_bytes(b"evil bytes")
    with pytest.raises(DigestError):
        store.fetch(blob, Spool(tmp_path / "b"))


def test_a_lost_artefact_is_a_state_error(tmp_path) -> None:
    store = Artefacts.open(str(tmp_path / "artefacts"))
    with pytest.raises(StateError, match="is not in"):
        list(store.read(digest_of(b"x")))


def test_the_same_bytes_put_at_the_same_time_are_whole_for_everybody(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    data = bytes(range(256)) * 4096
    together = threading.Barrier(4)

    def put() -> Blob:
        together.wait(timeout=60)
        return spool.put(data)

    with ThreadPoolExecutor(4) as pool:
        blobs = {work.result() for work in [pool.submit(put) for _ in range(4)]}
    assert blobs == {Blob(digest=digest_of(data), size_bytes=len(data))}
    assert b"".join(spool.read(digest_of(data))) == data
    assert not list((tmp_path / "partial").iterdir())
