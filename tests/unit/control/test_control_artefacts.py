"""The artefact store as control uses it: a folder that shares files with the spool, and a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.security.sealing import Sealing
from archipel.spec import SpecError, StateError
from servers import S3

SIZE = 20_000_000
"""More than one piece of a multipart upload."""


@pytest.fixture(params=[None, Sealing(bytes(range(32)))], ids=["plain", "sealed"])
def sealing(request: pytest.FixtureRequest) -> Sealing | None:
    key: Sealing | None = request.param
    return key


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def artefacts(request: pytest.FixtureRequest, sealing: Sealing | None, tmp_path: Path) -> Artefacts:
    if request.param == "folder":
        return Artefacts.open(str(tmp_path / "artefacts"), sealing)
    s3: S3 = request.getfixturevalue("s3")
    return Artefacts.open(s3.bucket(), sealing, **s3.options())


def test_a_blob_comes_back_whole_from_any_byte_on_and_can_be_forgotten(
    artefacts: Artefacts, sealing: Sealing | None, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool", sealing)
    data = bytes(range(256)) * (SIZE // 256)
    blob = spool.put(data)
    for _ in range(2):
        artefacts.put_file(spool.require(blob.digest), blob)
    assert artefacts.has(blob.digest)
    assert b"".join(artefacts.read(blob.digest, 12_345)) == data[12_345:]
    spool.drop(blob.digest)
    assert artefacts.fetch(blob, spool) == data
    for _ in range(2):
        artefacts.drop(blob.digest)
    assert not artefacts.has(blob.digest)
    with pytest.raises(StateError, match="is not in"):
        list(artefacts.read(blob.digest))


def test_dropping_the_spooled_file_leaves_the_artefact(tmp_path: Path) -> None:
    artefacts, spool = Artefacts.open(str(tmp_path / "artefacts")), Spool(tmp_path / "spool")
    blob = spool.put(b"birds")
    artefacts.put_file(spool.require(blob.digest), blob)
    assert spool.path(blob.digest).stat().st_nlink == 2
    spool.drop(blob.digest)
    assert b"".join(artefacts.read(blob.digest)) == b"birds"


@pytest.mark.parametrize(("url", "options"), [("s3://bucket", {"birds": "1"}), ("ftp://host/x", {})])
def test_a_store_that_cannot_be_opened_is_named(url: str, options: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="cannot be opened") as refused:
        Artefacts.open(url, **options)
    assert "allow_http" in refused.value.hint
