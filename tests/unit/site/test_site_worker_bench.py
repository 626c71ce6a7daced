"""A worker's bench: it gets what its task needs and nothing else, and nothing it says about results is believed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from archipel.data.bundle import pack_bundle
from archipel.data.stores.files import READ_BYTES
from archipel.data.stores.spool import Spool
from archipel.security.sealing import Sealing
from archipel.site.worker.bench import RESULTS, Bench, BenchBlobs, place, sweep
from archipel.site.worker.process import _require_answer
from archipel.spec import Blob, Part, RoundTask, StateError, TaskError, TrustError, Update, digest_of
from unit.site.site_fakes import SITE, make_job


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def bench(spool: Spool, tmp_path: Path) -> Bench:
    return Bench(tmp_path / "bench", spool)


def bundle_of(spool: Spool, folder: Path) -> Blob:
    folder.mkdir()
    (folder / "task.py").write_text("x = 1\n")
    return spool.put(pack_bundle(folder, ("*.py",)))


def test_where_the_spool_is_sealed_a_task_finds_plain_copies_and_its_results_are_sealed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", Sealing(bytes(32)))
    bench = Bench(tmp_path / "bench", spool)
    given = spool.put(b"a model")
    bench.give([given], bundle_of(spool, tmp_path / "job"))
    blobs = BenchBlobs(bench.folder)
    assert bytes(blobs.view(given.digest)) == b"a model"
    update, _ = bench.collect(answer(delta=make(blobs, b"an update")), {})
    made = update.parts["delta"].blob
    assert bytes(spool.view(made.digest)) == b"an update"
    assert b"an update" not in spool.require(made.digest).read_bytes()
    assert bench.results[0].read_bytes() == b""


def make(blobs: BenchBlobs, data: bytes) -> Blob:
    return blobs.write("a result", [data[:2], data[2:]], len(data))


def answer(**parts: Blob) -> Update:
    named = {name: Part(blob=blob) for name, blob in parts.items()}
    return Update(run="run-1", round=0, site=SITE, kind="train", parts=named, seconds=0.0)


def test_a_task_finds_its_blobs_and_its_code_and_not_those_of_the_task_before(
    bench: Bench, spool: Spool, tmp_path: Path
) -> None:
    first, second, bundle = spool.put(b"first"), spool.put(b"second"), bundle_of(spool, tmp_path / "job")
    blobs = BenchBlobs(bench.folder)
    bench.give([first], bundle)
    assert blobs.require(first.digest).read_bytes() == b"first"
    assert (bench.folder / "bundles" / bundle.digest.removeprefix("sha256:") / "task.py").exists()
    bench.give([second], bundle)
    with pytest.raises(StateError, match="was given no blob"):
        blobs.require(first.digest)
    assert spool.has(first.digest)


def test_a_blob_that_was_fetched_again_is_given_anew(bench: Bench, spool: Spool, tmp_path: Path) -> None:
    blob, bundle = spool.put(b"bytes"), bundle_of(spool, tmp_path / "job")
    bench.give([blob], bundle)
    spool.path(blob.digest).write_bytes(b"rot")
    spool.drop(blob.digest)
    spool.put(b"bytes")
    bench.give([blob], bundle)
    assert BenchBlobs(bench.folder).require(blob.digest).read_bytes() == b"bytes"


def test_results_get_the_digests_of_their_copies_in_the_update_and_in_the_state(bench: Bench, spool: Spool) -> None:
    blobs = BenchBlobs(bench.folder)
    one, other = make(blobs, b"one"), make(blobs, b"other")
    update, state = bench.collect(answer(delta=one, extra=other), {"control": other})
    expected = {name: Blob(digest=digest_of(data), size_bytes=len(data)) for name, data in CONTENTS.items()}
    assert {name: part.blob for name, part in update.parts.items()} == expected
    assert state == {"control": expected["extra"]}
    assert bytes(spool.view(expected["delta"].digest)) == b"one"


CONTENTS = {"delta": b"one", "extra": b"other"}


def test_results_are_copied_so_that_what_is_written_later_changes_nothing(bench: Bench, spool: Spool) -> None:
    made = make(BenchBlobs(bench.folder), b"one")
    with (bench.folder / "result-0").open("r+b", buffering=0) as kept_open:
        update, _ = bench.collect(answer(delta=made), {})
        kept_open.write(b"two")
    assert spool.require(update.parts["delta"].blob.digest).read_bytes() == b"one"


class Meddled:
    """A result whose worker writes on while the agent copies it: after each piece, `meddle` is done to the file."""

    def __init__(self, bench: Bench, meddle: Callable[[Path], object]) -> None:
        self._spool, self._file, self._meddle = bench._spool, bench.results[0], meddle
        self.sealing = self._spool.sealing

    def write(self, name: str, pieces: Iterable[bytes | memoryview], size_bytes: int) -> Blob:
        return self._spool.write(name, self._meddling(pieces), size_bytes)

    def _meddling(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for piece in pieces:
            yield piece
            self._meddle(self._file)


def test_a_worker_that_writes_on_while_it_is_copied_gets_the_digest_of_the_copy(bench: Bench, spool: Spool) -> None:
    size = 2 * READ_BYTES + 1
    made = make(BenchBlobs(bench.folder), bytes(size))
    bench._spool = Meddled(bench, lambda file: file.write_bytes(b"\1" * size))  # type: ignore[assignment]
    update, _ = bench.collect(answer(delta=made), {})
    copied = update.parts["delta"].blob
    data = spool.require(copied.digest).read_bytes()
    assert data == bytes(READ_BYTES) + b"\1" * (size - READ_BYTES)
    assert copied == Blob(digest=digest_of(data), size_bytes=size)


def test_a_worker_that_cuts_its_result_while_it_is_copied_is_refused_and_nothing_stays(
    bench: Bench, spool: Spool
) -> None:
    made = make(BenchBlobs(bench.folder), bytes(2 * READ_BYTES))
    bench._spool = Meddled(bench, lambda file: os.truncate(file, 0))  # type: ignore[assignment]
    with pytest.raises(TaskError, match=f"cut a result short: {READ_BYTES} of {2 * READ_BYTES} bytes"):
        bench.collect(answer(delta=made), {})
    assert list(spool.digests()) == list((spool.folder / "partial").iterdir()) == []


def test_a_blob_that_was_given_needs_no_file_and_no_other_of_the_site_may_be_named(
    bench: Bench, spool: Spool, tmp_path: Path
) -> None:
    given, other = spool.put(b"given"), spool.put(b"another run's")
    bench.give([given], bundle_of(spool, tmp_path / "job"))
    update, state = bench.collect(answer(delta=given), {"control": given})
    assert update.parts["delta"].blob == state["control"] == given
    with pytest.raises(TaskError, match="has made no"):
        bench.collect(answer(delta=other), {})


class Lie(msgspec.Struct):
    name: str
    said: list[Blob]
    match: str


def at(number: int, size_bytes: int) -> Blob:
    return Blob(digest=place(number), size_bytes=size_bytes)


LIES = [
    Lie("more bytes than are there", [at(0, 14)], "cut a result short: 13 of 14 bytes"),
    Lie("more bytes than there are anywhere", [at(0, 2**62)], "cut a result short"),
    Lie("two sizes, as many copies as it likes", [at(0, 13), at(0, 12)], "two sizes"),
    Lie("a file it never wrote", [at(2, 13)], "cut a result short: 0 of 13 bytes"),
    Lie("a file that is none of its", [at(RESULTS, 13)], "has made no"),
    Lie("a digest of its own", [Blob(digest=digest_of(b"what is there"), size_bytes=13)], "has made no"),
]


@pytest.mark.parametrize("sealing", [None, Sealing(bytes(32))], ids=["plain", "sealed"])
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
def test_a_lie_about_a_result_is_refused_and_stores_nothing(tmp_path: Path, lie: Lie, sealing: Sealing | None) -> None:
    spool = Spool(tmp_path / "spool", sealing)
    bench = Bench(tmp_path / "bench", spool)
    make(BenchBlobs(bench.folder), b"what is there")
    with pytest.raises(TaskError, match=lie.match):
        bench.collect(answer(**{f"part{number}": blob for number, blob in enumerate(lie.said)}), {})
    assert list(spool.digests()) == list((spool.folder / "partial").iterdir()) == []


def test_a_task_writes_over_the_results_of_the_one_before_and_no_tail_of_them_is_taken(
    bench: Bench, spool: Spool
) -> None:
    blobs = BenchBlobs(bench.folder)
    bench.collect(answer(delta=make(blobs, b"a long result")), {})
    blobs.begin()
    update, _ = bench.collect(answer(delta=make(blobs, b"short")), {})
    assert bytes(spool.view(update.parts["delta"].blob.digest)) == b"short"


def test_a_scratch_file_begins_empty(bench: Bench) -> None:
    blobs = BenchBlobs(bench.folder)
    make(blobs, b"a result")
    blobs.begin()
    assert blobs.scratch("an export").read_bytes() == b""


def test_a_result_that_cannot_be_written_leaves_its_file_empty(bench: Bench) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.EFBIG, "File too large")

    with pytest.raises(OSError, match="too large"):
        BenchBlobs(bench.folder).write("a result", pieces(), 8)
    assert bench.results[0].read_bytes() == b""


def test_a_result_that_failed_leaves_its_file_empty_and_one_too_many_is_named(bench: Bench) -> None:
    blobs = BenchBlobs(bench.folder)
    path = blobs.scratch("a result")
    path.write_bytes(b"half")
    blobs.discard(path)
    assert path.read_bytes() == b""
    for _ in range(RESULTS - 1):
        blobs.scratch("a result")
    with pytest.raises(StateError, match=f"a task has {RESULTS} results"):
        blobs.scratch("a result")


def test_benches_that_a_crash_left_behind_are_removed(bench: Bench, tmp_path: Path) -> None:
    sweep(tmp_path / "bench")
    assert not bench.folder.exists()


@pytest.mark.parametrize("change", [{"run": "run-2"}, {"round": 1}, {"site": "dream"}, {"kind": "train"}], ids=str)
def test_an_answer_to_something_else_is_refused(change: dict[str, object]) -> None:
    bundle = Blob(digest=digest_of(b"a bundle"), size_bytes=1)
    task = RoundTask(run="run-1", round=0, site=SITE, kind="check", job=make_job(), bundle=bundle)
    said: dict[str, object] = {"run": "run-1", "round": 0, "site": SITE, "kind": "check", "seconds": 0.0}
    _require_answer(task, Update(**said))  # type: ignore[arg-type]
    with pytest.raises(TrustError, match="answered 'check' with something else"):
        _require_answer(task, Update(**{**said, **change}))  # type: ignore[arg-type]
