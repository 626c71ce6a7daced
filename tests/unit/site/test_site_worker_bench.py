"""A worker's bench: it gets what its task needs and nothing else, and nothing it says about results is believed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from archipel.data.bundle import pack_bundle
from archipel.data.stores.spool import Spool
from archipel.security.sealing import Sealing
from archipel.site.worker.bench import RESULTS, Bench, BenchBlobs, sweep
from archipel.site.worker.process import _require_answer
from archipel.spec import Blob, DigestError, RoundTask, StateError, TaskError, TrustError, Update, digest_of
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
    made = make(blobs, b"an update")
    bench.collect(blobs.made, [made])
    assert bytes(spool.view(made.digest)) == b"an update"
    assert b"an update" not in spool.require(made.digest).read_bytes()


def make(blobs: BenchBlobs, data: bytes) -> Blob:
    with blobs.draft("a result", len(data)) as draft:
        draft.write(data, 0)
        assert draft.finish() == digest_of(data)
        return blobs.adopt(draft)


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


def test_results_are_copied_so_that_what_is_written_later_changes_nothing(bench: Bench, spool: Spool) -> None:
    blobs = BenchBlobs(bench.folder)
    one, other = make(blobs, b"one"), make(blobs, b"other")
    with (bench.folder / "result-0").open("r+b") as kept_open:
        bench.collect(blobs.made, [one, other])
        kept_open.write(b"two")
    assert [spool.require(blob.digest).read_bytes() for blob in (one, other)] == [b"one", b"other"]
    blobs.begin()
    assert [path.stat().st_size for path in bench.results[1:]] == [0] * (RESULTS - 1)


def test_a_blob_that_was_given_needs_no_file(bench: Bench, spool: Spool) -> None:
    given = spool.put(b"given")
    bench.collect({}, [given])
    assert bytes(spool.view(given.digest)) == b"given"
    with pytest.raises(TaskError, match="has made no"):
        bench.collect({}, [Blob(digest=digest_of(b"not given"), size_bytes=9)])


TRUE = digest_of(b"what is there")


class Lie(msgspec.Struct):
    name: str
    files: dict[str, str]
    content: bytes
    error: type[Exception]
    size: int = len(b"what is there")


LIES = [
    Lie("another content", {TRUE: "result-0"}, b"something els", DigestError),
    Lie("more bytes than said", {TRUE: "result-0"}, b"what is there!", DigestError),
    Lie("fewer bytes than said", {TRUE: "result-0"}, b"what", TaskError),
    Lie("no file", {}, b"what is there", TaskError),
    Lie("a file that is none of its", {TRUE: "../../spool/secret"}, b"", TaskError),
    Lie("a file it never wrote", {TRUE: "result-2"}, b"what is there", TaskError),
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
def test_a_lie_about_a_result_is_refused_and_stores_nothing(bench: Bench, spool: Spool, lie: Lie) -> None:
    (spool.folder / "secret").write_bytes(b"what is there")
    (bench.folder / "result-0").write_bytes(lie.content)
    with pytest.raises(lie.error):
        bench.collect(lie.files, [Blob(digest=TRUE, size_bytes=lie.size)])
    assert not spool.has(TRUE)


def test_a_result_that_failed_leaves_its_file_empty_and_one_too_many_is_named(bench: Bench) -> None:
    blobs = BenchBlobs(bench.folder)
    path = blobs.scratch("a result")
    path.write_bytes(b"half")
    blobs.discard(path)
    assert path.read_bytes() == b""
    for _ in range(RESULTS - 1):
        blobs.scratch("a result")
    with pytest.raises(StateError, match=f"more than {RESULTS} results"):
        blobs.scratch("a result")


def test_benches_that_a_crash_left_behind_are_removed(bench: Bench, tmp_path: Path) -> None:
    sweep(tmp_path / "bench")
    assert not bench.folder.exists()


@pytest.mark.parametrize("change", [{"run": "run-2"}, {"round": 1}, {"site": "dream"}, {"kind": "train"}], ids=str)
def test_an_answer_to_something_else_is_refused(change: dict[str, object]) -> None:
    bundle = Blob(digest=TRUE, size_bytes=1)
    task = RoundTask(run="run-1", round=0, site=SITE, kind="check", job=make_job(), bundle=bundle)
    said: dict[str, object] = {"run": "run-1", "round": 0, "site": SITE, "kind": "check", "seconds": 0.0}
    _require_answer(task, Update(**said))  # type: ignore[arg-type]
    with pytest.raises(TrustError, match="answered 'check' with something else"):
        _require_answer(task, Update(**{**said, **change}))  # type: ignore[arg-type]
